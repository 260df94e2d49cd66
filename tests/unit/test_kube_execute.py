"""Actions on the API server: in order, guarded, and safe to repeat."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake_cluster import FakeCluster, Write, gpu_node, refuse_kind
from glm_operator.api import names
from glm_operator.kube.errors import (
    CapacityGoneError,
    ConflictError,
    ForeignObjectError,
    RefusedError,
)
from glm_operator.kube.execute import Executor, Owner
from glm_operator.plan.actions import Action, Apply, CreatePod, DeleteChild, DeletePod, PatchPod

GPU = "nvidia.com/gpu"
OWNER = Owner("ml", "vision", "owner")
REFERENCE = {"kind": names.KIND, "name": "vision", "uid": "owner", "controller": True}


def pod(name: str, gpus: int = 2, node: str = "gpu-1", **metadata: Any) -> dict[str, Any]:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    labels = {names.LABEL_DEPLOYMENT: "vision", names.LABEL_TIER: "flash"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "ml",
            "labels": labels,
            "ownerReferences": [REFERENCE],
            **metadata,
        },
        "spec": {
            "containers": [{"name": "engine", "resources": {"limits": {GPU: str(gpus)}}}],
            "affinity": {"nodeAffinity": required},
        },
    }


def service(owner: dict[str, Any] | None = REFERENCE) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "vision-flash",
            "namespace": "ml",
            "ownerReferences": [owner] if owner else [],
        },
    }


def create(name: str, gpus: int = 2) -> CreatePod:
    return CreatePod(pod(name, gpus), "gpu-1", GPU, gpus)


def cluster_with(*objects: dict[str, Any], gpus: int = 8) -> FakeCluster:
    cluster = FakeCluster()
    for item in (gpu_node("gpu-1", gpus), *objects):
        cluster.put(item)
    return cluster


def execute(cluster: FakeCluster, *actions: Action) -> list[str]:
    """Names of the pods that the executor reported as created."""
    made: list[str] = []
    executor = Executor(cluster, lambda raw: made.append(raw["metadata"]["name"]))
    asyncio.run(executor.execute(OWNER, actions))
    return made


def test_actions_are_carried_out_in_order_and_created_pods_are_reported() -> None:
    cluster = cluster_with()
    made = execute(cluster, Apply(service(), "m"), create("a"), create("b"))
    assert made == ["a", "b"]
    assert [write.name for write in cluster.writes] == ["vision-flash", "a", "b"]


def test_nothing_is_done_after_the_first_error() -> None:
    cluster = cluster_with()
    refuse_kind(cluster, "Service", RefusedError("no"))
    with pytest.raises(RefusedError):
        execute(cluster, create("a"), Apply(service(), "m"), create("b"))
    assert [write.name for write in cluster.writes] == ["a"]


@pytest.mark.parametrize(
    "taken",
    [
        pod("other", 7) | {"metadata": {"name": "other", "namespace": "x"}},
        pod("ours-not-bound-yet", 7),
        pod("terminating", 7, deletionTimestamp="2026-11-23T21:00:00Z"),
    ],
    ids=["bound, of others", "pinned, of ours", "terminating"],
)
def test_a_pod_is_not_created_when_its_gpus_are_gone(taken: dict[str, Any]) -> None:
    if "affinity" in taken["spec"] and taken["metadata"]["namespace"] == "x":
        taken["spec"] = {**taken["spec"], "nodeName": "gpu-1"}
    cluster = cluster_with(taken)
    with pytest.raises(CapacityGoneError, match=r"node gpu-1 has 1 free nvidia.com/gpu"):
        execute(cluster, create("a"))
    assert cluster.writes == []


def test_a_finished_pod_does_not_stand_in_the_way() -> None:
    done = pod("done", 8)
    done["spec"]["nodeName"] = "gpu-1"
    done["status"] = {"phase": "Succeeded"}
    assert execute(cluster_with(done), create("a")) == ["a"]


def test_a_node_that_is_gone_has_no_room() -> None:
    with pytest.raises(CapacityGoneError, match="node gpu-1 is gone"):
        execute(FakeCluster(), create("a"))


def test_two_pods_of_one_plan_do_not_get_the_same_gpus() -> None:
    cluster = cluster_with(gpus=3)
    with pytest.raises(CapacityGoneError):
        execute(cluster, create("a"), create("b"))
    assert [write.name for write in cluster.writes] == ["a"]


def test_a_pod_that_an_earlier_attempt_created_is_success() -> None:
    cluster = cluster_with(pod("a"))
    assert execute(cluster, create("a")) == ["a"]


@pytest.mark.parametrize(
    "existing",
    [
        pod("a", deletionTimestamp="2026-11-23T21:00:00Z"),
        pod("a", ownerReferences=[{**REFERENCE, "uid": "an earlier one"}]),
    ],
    ids=["terminating", "of an earlier object"],
)
def test_a_name_that_is_taken_is_a_conflict(existing: dict[str, Any]) -> None:
    with pytest.raises(ConflictError, match="pod ml/a exists"):
        execute(cluster_with(existing), create("a"))


def test_a_pod_of_another_uid_is_not_deleted() -> None:
    cluster = cluster_with(pod("a", uid="new"))
    execute(cluster, DeletePod("a", "old", None, "why"))
    assert ("Pod", "ml", "a") in cluster.objects


def test_a_pod_that_is_gone_is_deleted_already() -> None:
    execute(cluster_with(), DeletePod("a", "old", None, "why"))


def test_labels_and_annotations_are_set_and_removed() -> None:
    cluster = cluster_with(pod("a", uid="u", annotations={"x": "1", "y": "2"}))
    execute(cluster, PatchPod("a", "u", {names.LABEL_ROUTABLE: "true"}, {"x": None}))
    metadata = cluster.objects["Pod", "ml", "a"]["metadata"]
    assert metadata["labels"][names.LABEL_ROUTABLE] == "true"
    assert metadata["labels"][names.LABEL_TIER] == "flash"
    assert metadata["annotations"] == {"y": "2"}


@pytest.mark.parametrize("uid", ["another", "gone"])
def test_a_pod_that_went_meanwhile_needs_no_labels(uid: str) -> None:
    cluster = cluster_with(*([pod("a", uid="u")] if uid == "another" else []))
    execute(cluster, PatchPod("a", uid, {names.LABEL_ROUTABLE: "true"}))
    left = cluster.objects.get(("Pod", "ml", "a"), {"metadata": {"labels": {}}})
    assert names.LABEL_ROUTABLE not in left["metadata"]["labels"]


@pytest.mark.parametrize(
    "existing",
    [service(), service({**REFERENCE, "uid": "an earlier one"})],
    ids=["ours", "of an earlier object of this name"],
)
def test_our_own_child_is_applied_again(existing: dict[str, Any]) -> None:
    cluster = cluster_with(existing)
    execute(cluster, Apply(service(), "m"))
    assert cluster.writes == [Write("apply", "Service", "vision-flash")]


@pytest.mark.parametrize(
    "foreign",
    [service(None), service({**REFERENCE, "kind": "Deployment", "uid": "x"})],
    ids=["nobody's", "somebody's"],
)
def test_an_object_of_others_is_not_taken_over(foreign: dict[str, Any]) -> None:
    cluster = cluster_with(foreign)
    with pytest.raises(ForeignObjectError, match="Service ml/vision-flash exists and does not"):
        execute(cluster, Apply(service(), "m"))
    assert cluster.writes == []


def test_only_our_own_child_is_deleted() -> None:
    cluster = cluster_with(service(None))
    execute(cluster, DeleteChild("v1", "Service", "vision-flash"))
    assert cluster.writes == []
    cluster.put(service())
    execute(cluster, DeleteChild("v1", "Service", "vision-flash"))
    assert ("Service", "ml", "vision-flash") not in cluster.objects
