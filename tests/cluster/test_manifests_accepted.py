"""A real API server takes every object of a plan under Pod Security `restricted`, unchanged."""

from __future__ import annotations

import time
from typing import Any

import pytest

from api_server import Refused
from control_plane import ControlPlane
from glm_operator.manifests.applied import is_applied
from glm_operator.plan.actions import Apply, CreatePod
from plan_builders import FLAGSHIP, FLASH, cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(30, func_only=True)]

PATHS = {
    "Service": "/api/v1/namespaces/{}/services",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "ControllerRevision": "/apis/apps/v1/namespaces/{}/controllerrevisions",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
}
PLACEMENT = {
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "team", "operator": "Exists"}, {"key": "a", "value": "b"}],
}
ENGINE = {
    "extraArgs": ["--enforce-eager"],
    "env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "1"}],
    "resources": {"cpu": "100m", "memory": "6Gi"},
}


def planned(**flagship: Any) -> list[dict[str, Any]]:
    """Every object that the first plan of an object writes."""
    made = cluster(8, flagship=FLAGSHIP | {"engine": ENGINE} | flagship, flash=FLASH)
    for name, node in made.nodes.items():
        made.set_node(name, labels={**node.labels, "pool": "gpu"})
    actions = made.plan().actions
    return [dict(one.manifest) for one in actions if isinstance(one, Apply | CreatePod)]


@pytest.fixture(scope="session")
def restricted(control_plane: ControlPlane) -> str:
    """A namespace that enforces the strictest standard, ready to take pods."""
    name = "restricted-pods"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    control_plane.api.create("/api/v1/namespaces", body)
    deadline = time.monotonic() + 20
    while True:
        try:
            control_plane.api.get(f"/api/v1/namespaces/{name}/serviceaccounts/default")
        except Refused:
            # Pods are refused until the controller manager made the namespace's own account.
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return name


@pytest.mark.parametrize(
    "flagship",
    [
        {},
        {"placement": PLACEMENT | {"pinning": "Preferred"}},
        {"placement": PLACEMENT | {"pinning": "None"}},
        {"model": FLAGSHIP["model"] | {"uri": "pvc://weights/glm"}},
        {"context": {"kvCacheDType": "FP8"}, "thinking": {"default": "Disabled"}},
    ],
    ids=["plain", "preferred", "unpinned", "claim", "options"],
)
def test_every_object_of_a_plan_is_accepted_as_it_is(
    control_plane: ControlPlane, restricted: str, flagship: dict[str, Any]
) -> None:
    objects = planned(**flagship)
    assert {one["kind"] for one in objects} == set(PATHS)
    for manifest in objects:
        manifest["metadata"] = manifest["metadata"] | {"namespace": restricted}
        if manifest["kind"] == "RoleBinding":
            manifest["subjects"] = [manifest["subjects"][0] | {"namespace": restricted}]
        path = PATHS[manifest["kind"]].format(restricted)
        stored = control_plane.api.create(path, manifest, dry_run=True)
        # Pods are created once and never compared; admission adds tolerations to them.
        assert manifest["kind"] == "Pod" or is_applied(manifest, stored), manifest["kind"]
