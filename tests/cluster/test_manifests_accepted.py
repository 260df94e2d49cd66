"""A real API server takes every object of a plan under Pod Security `restricted`, unchanged."""

from __future__ import annotations

import time
from dataclasses import replace
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
WEIGHTS_PATHS = PATHS | {
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "PersistentVolume": "/api/v1/persistentvolumes",
}
HUB = {"preset": "GLM-4.6V", "uri": "hf://zai-org/GLM-4.6V-FP8", "quantization": "FP8"}
VOLUMES = {"PersistentVolume", "PersistentVolumeClaim"}
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


def with_weights(**flagship: Any) -> list[dict[str, Any]]:
    """Every object that is written until all replicas of an object with weights are there."""
    made = cluster(8, flagship=FLAGSHIP | {"model": HUB} | flagship)
    made.defaults = replace(made.defaults, node_paths=("/data",))
    found = []
    for _ in range(40):
        found += [
            dict(one.manifest)
            for one in made.reconcile().actions
            if isinstance(one, Apply | CreatePod)
        ]
        made.advance(10)
    return found


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
        {"context": {"kvCacheDType": "FP8"}, "thinking": {"default": "Disabled"}},
    ],
    ids=["plain", "preferred", "unpinned", "options"],
)
def test_every_object_of_a_plan_is_accepted_as_it_is(
    control_plane: ControlPlane, restricted: str, flagship: dict[str, Any]
) -> None:
    objects = planned(**flagship)
    assert {one["kind"] for one in objects} == set(PATHS)
    for manifest in objects:
        check_accepted(control_plane, restricted, manifest)


@pytest.mark.parametrize(
    ("flagship", "without"),
    [
        ({"weights": {"secretRef": "hub"}}, set()),
        ({"weights": {"cache": "PersistentVolumeClaim", "claimName": "models"}}, VOLUMES),
        ({"weights": {"cache": "Ephemeral"}}, VOLUMES),
        ({"model": HUB | {"uri": "pvc://models/glm"}}, VOLUMES),
        ({"model": HUB | {"uri": "file:///data/glm"}}, set()),
    ],
    ids=["on the node", "in a claim", "ephemeral", "of a claim", "folder of the node"],
)
def test_every_object_of_weights_is_accepted_as_it_is(
    control_plane: ControlPlane, restricted: str, flagship: dict[str, Any], without: set[str]
) -> None:
    objects = with_weights(**flagship)
    assert {one["kind"] for one in objects} == set(WEIGHTS_PATHS) - without
    for manifest in objects:
        check_accepted(control_plane, restricted, manifest)


def check_accepted(control_plane: ControlPlane, namespace: str, manifest: dict[str, Any]) -> None:
    """The API server takes an object, and does not need it to be written again."""
    if "namespace" in manifest["metadata"]:
        manifest["metadata"] = manifest["metadata"] | {"namespace": namespace}
    if manifest["kind"] == "RoleBinding":
        manifest["subjects"] = [manifest["subjects"][0] | {"namespace": namespace}]
    path = WEIGHTS_PATHS[manifest["kind"]].format(namespace)
    stored = control_plane.api.create(path, manifest, dry_run=True)
    # Pods are created once and never compared; admission adds tolerations to them.
    assert manifest["kind"] == "Pod" or is_applied(manifest, stored), manifest["kind"]
    if manifest["kind"] == "Job":
        check_pod_of_job(control_plane, namespace, manifest)


def check_pod_of_job(control_plane: ControlPlane, namespace: str, job: dict[str, Any]) -> None:
    """Pod Security refuses no Job: only its pods."""
    template = job["spec"]["template"]
    pod = {"metadata": {"name": "of-a-job", **template["metadata"]}, "spec": template["spec"]}
    control_plane.api.create(PATHS["Pod"].format(namespace), pod, dry_run=True)
