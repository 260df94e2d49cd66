"""`make demo KUBECONFIG=file`, against the local cluster as if it were somebody's own."""

from __future__ import annotations

import pytest

from glm_dev.demo import __main__ as demo
from glm_dev.demo import guest
from glm_dev.site import SYSTEM, Site

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_the_demo_leaves_a_cluster_that_it_did_not_start_as_it_was(site: Site) -> None:
    before = guest.absent(site)
    assert [thing.words for thing in before] == ["GLMDeployment vision", "namespace ml"]
    assert demo.main(["--once", "--kubeconfig", str(site.kubectl.kubeconfig)]) == 0
    assert guest.absent(site) == before
    assert site.kubectl.list("deployment", SYSTEM, "app.kubernetes.io/name=glm-operator")


def test_the_demo_names_a_kubeconfig_that_does_not_exist(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert demo.main(["--once", "--kubeconfig", "/nowhere/config"]) == 1
    assert "There is no kubeconfig /nowhere/config" in capsys.readouterr().out
