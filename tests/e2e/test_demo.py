"""`make demo KUBECONFIG=file`, against the local cluster as if it were somebody's own."""

from __future__ import annotations

import pytest

from glm_dev.demo import __main__ as demo
from glm_dev.kubectl import wait_for
from glm_dev.site import Site

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_the_demo_ends_well_on_a_cluster_that_it_did_not_start(site: Site) -> None:
    kubectl = site.kubectl
    assert demo.main(["--once", "--kubeconfig", str(kubectl.kubeconfig)]) == 0
    kubectl.run("delete", "glm", "--all", "-n", demo.NAMESPACE)
    wait_for("no pod to be left", lambda: not kubectl.list("pod", demo.NAMESPACE), 400)


def test_the_demo_names_a_kubeconfig_that_does_not_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(["--once", "--kubeconfig", "/nowhere/config"]) == 1
    assert "There is no kubeconfig /nowhere/config" in capsys.readouterr().out
