"""One real control plane without nodes: started for a test run, or the user's own cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from api_server import ApiServer
from glm_dev.cluster import ClusterSpec, LocalCluster, binaries
from glm_dev.kubectl import Kubectl, condition, wait_for
from glm_operator.api import crd


@dataclass(frozen=True)
class ControlPlane:
    """etcd, API server, controller manager and scheduler, with our CRD installed."""

    kubeconfig: Path
    kubectl: Kubectl
    api: ApiServer
    """Requests as the administrator; a hundred times cheaper than kubectl."""


@contextmanager
def running() -> Iterator[ControlPlane]:
    """A control plane with the CRD of this checkout."""
    with _kubeconfig() as kubeconfig, closing(ApiServer(kubeconfig)) as api:
        plane = ControlPlane(kubeconfig, Kubectl(binaries.kubectl(), kubeconfig), api)
        plane.kubectl.apply(crd.definition())
        wait_established(api)
        yield plane


def wait_established(api: ApiServer) -> None:
    """Wait until the API serves our objects. `kubectl wait` fails where a CRD has no status yet."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd.NAME}"

    def probe() -> bool:
        return condition(api.get(path), "Established").get("status") == "True"

    wait_for("the CRD to be established", probe, 30, every=0.1)


@contextmanager
def _kubeconfig() -> Iterator[Path]:
    given = os.environ.get("GLM_TEST_KUBECONFIG")
    if given:
        yield Path(given)
        return
    # A name of its own, so that two runs on one machine do not meet.
    spec = ClusterSpec(name=f"tests-{os.getpid()}", nodes="none", temporary=True)
    with LocalCluster.up(spec) as cluster:
        yield cluster.kubeconfig
