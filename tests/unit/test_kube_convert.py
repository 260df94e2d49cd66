"""Pods and nodes as the API server sends them, read into the planner's data."""

from __future__ import annotations

from typing import Any

import pytest

from fake_cluster import gpu_node, running_status
from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.manifests.engine_pod import PodIdentity, engine_pod
from glm_operator.manifests.labels import Owner
from glm_operator.plan.observed import Hold, Taint
from plan_builders import engine

GPU = "nvidia.com/gpu"


def pod(**changes: Any) -> dict[str, Any]:
    """A pod with two GPUs, labelled as an engine of ml/vision and pinned to gpu-1."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-1"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    base: dict[str, Any] = {
        "metadata": {
            "name": "vision-flagship-5f2a9c1e-3",
            "namespace": "ml",
            "uid": "u1",
            "creationTimestamp": "2026-11-23T20:46:00Z",
            "labels": {
                names.LABEL_DEPLOYMENT: "vision",
                names.LABEL_TIER: "flagship",
                names.LABEL_REVISION: "5f2a9c1e",
            },
            "annotations": {},
            "ownerReferences": [{"uid": "owner", "controller": True}],
        },
        "spec": {
            "containers": [{"name": "engine", "resources": {"limits": {GPU: "2"}}}],
            "affinity": {"nodeAffinity": required},
        },
        "status": {"phase": "Pending"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        target = base
        for parent in parents:
            target = target[parent]
        target[last] = value
    return base


def limits(count: int, **more: Any) -> dict[str, Any]:
    return {"resources": {"limits": {GPU: str(count)}}, **more}


@pytest.mark.parametrize(
    ("containers", "inits", "expected"),
    [
        ([limits(2)], [], 2),
        ([limits(2), limits(1)], [], 3),
        ([limits(1)], [limits(4)], 4),
        ([limits(2)], [limits(1, restartPolicy="Always"), limits(2)], 3),
    ],
    ids=["one", "sum", "largest init", "sidecar adds up"],
)
def test_a_pod_takes_what_the_scheduler_counts(
    containers: list[Any], inits: list[Any], expected: int
) -> None:
    spec = {"containers": containers, "initContainers": inits}
    assert convert.requested({"spec": spec}) == {GPU: expected}


@pytest.mark.parametrize(
    ("resource", "extended"),
    [
        (GPU, True),
        ("amd.com/gpu", True),
        ("cpu", False),
        ("hugepages-2Mi", False),
        ("kubernetes.io/x", False),
    ],
)
def test_only_resources_with_a_foreign_domain_are_extended(resource: str, extended: bool) -> None:
    assert convert.is_extended(resource) is extended


def test_a_node_with_a_thousand_of_something_is_read_like_any_other() -> None:
    raw = gpu_node("gpu-1")
    raw["status"]["allocatable"] |= {"devices.kubevirt.io/kvm": "1k", "example.com/odd": "1500m"}
    assert convert.node_of(raw).allocatable == {GPU: 8, "devices.kubevirt.io/kvm": 1000}


def test_a_pod_that_takes_two_thousand_of_something_still_holds_its_gpus() -> None:
    greedy = {"resources": {"limits": {GPU: "2", "example.com/port": "2k"}}}
    held = convert.requested({"spec": {"containers": [greedy]}})
    assert held == {GPU: 2, "example.com/port": 2000}


def test_an_engine_holds_its_gpus_on_the_node_it_is_pinned_to_before_it_is_bound() -> None:
    assert convert.holding_node(pod()) == "gpu-1"


@pytest.mark.parametrize("pinning", ["Required", "Preferred", "None"])
def test_an_engine_holds_its_gpus_where_its_room_was_taken(pinning: str) -> None:
    made = engine_pod(
        Owner("vision", "ml", "uid"), engine(pinning=pinning), "r1", PodIdentity(0, "gpu-1"), ""
    )
    assert convert.holding_node(made) == "gpu-1"


def test_a_replica_that_is_not_pinned_may_be_bound_elsewhere() -> None:
    planned = {"glm-operator.io/planned-node": "gpu-1"}
    loose = pod(metadata__annotations=planned, spec__affinity={}, spec__nodeName="gpu-2")
    assert convert.holding_node(loose) == "gpu-2"
    assert convert.replica_of(loose, "").node == "gpu-2"


def test_a_pod_that_others_pinned_holds_nothing_before_it_is_bound() -> None:
    assert convert.holding_node(pod(metadata__labels={})) == ""


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_finished_pod_holds_nothing(phase: str) -> None:
    assert convert.holding_node(pod(spec__nodeName="gpu-1", status__phase=phase)) == ""


def test_a_terminating_pod_still_holds_its_gpus() -> None:
    ending = pod(spec__nodeName="gpu-1", metadata__deletionTimestamp="2026-11-23T21:00:00Z")
    (node,) = convert.nodes_of([gpu_node("gpu-1")], [ending])
    assert node.holds == (Hold(GPU, 2, "ml", "vision-flagship-5f2a9c1e-3", "u1", terminating=True),)


def test_a_node_shows_what_placement_asks_for() -> None:
    raw = gpu_node("gpu-1")
    raw["spec"] = {
        "unschedulable": True,
        "taints": [{"key": GPU, "effect": "NoSchedule"}],
    }
    raw["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    node = convert.node_of(raw)
    assert (node.ready, node.unschedulable) == (False, True)
    assert node.taints == (Taint(GPU, "", "NoSchedule"),)
    assert node.allocatable == {GPU: 8}


def test_a_pending_replica_is_read_from_its_labels_and_its_affinity() -> None:
    replica = convert.replica_of(pod(), "owner")
    assert (replica.tier, replica.revision, replica.ordinal) == ("flagship", "5f2a9c1e", 3)
    assert (replica.node, replica.bound, replica.gpus, replica.resource) == ("gpu-1", False, 2, GPU)
    assert replica.verified is None
    assert replica.container_id == ""
    assert replica.created_at == 1795466760.0


def test_a_verified_replica_shows_gate_container_and_reason() -> None:
    status = running_status("u1")
    gate = {"type": names.GATE_VERIFIED, "status": "True", "reason": "Verified", "message": "m"}
    status["conditions"].append(gate)
    annotations = {names.ANNOTATION_VERIFIED_CONTAINER: "containerd://u1"}
    replica = convert.replica_of(pod(status=status, metadata__annotations=annotations), "owner")
    assert (replica.verified, replica.verify_reason) == (True, "Verified")
    assert replica.verified_container == replica.container_id == "containerd://u1"
    assert replica.containers_ready


def test_a_crashed_container_has_no_id_and_says_how_it_ended() -> None:
    status = running_status("u1")
    (engine,) = status["containerStatuses"]
    engine["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    engine["lastState"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    replica = convert.replica_of(pod(status=status), "owner")
    assert replica.container_id == ""
    assert replica.waiting_reason == "CrashLoopBackOff"
    assert replica.failure == "Completed, exit code 0"


@pytest.mark.parametrize(
    "waiting",
    [
        {"reason": "ErrImagePull", "message": "connection refused"},
        {
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "x": ErrImagePull: connection refused',
        },
    ],
    ids=["pulling", "backing off"],
)
def test_both_phases_of_a_failing_pull_read_the_same(waiting: dict[str, str]) -> None:
    status = {
        "phase": "Pending",
        "containerStatuses": [{"name": "engine", "state": {"waiting": waiting}}],
    }
    replica = convert.replica_of(pod(status=status), "owner")
    assert (replica.waiting_reason, replica.waiting_message) == (
        "ImagePullBackOff",
        "connection refused",
    )


def test_a_failed_pod_says_why_and_since_when() -> None:
    ended = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-23T20:47:00Z"}
    status = {
        "phase": "Failed",
        "reason": "UnexpectedAdmissionError",
        "message": "no GPUs",
        "containerStatuses": [{"name": "engine", "state": {"terminated": ended}}],
    }
    replica = convert.replica_of(pod(status=status), "owner")
    assert replica.failure == "UnexpectedAdmissionError: no GPUs"
    assert replica.failed_at == replica.created_at + 60


def test_a_pod_of_an_earlier_object_of_the_same_name_counts_as_terminating() -> None:
    assert convert.replica_of(pod(), "another uid").terminating


def test_the_schedulers_sentence_is_kept() -> None:
    refused = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
        "lastTransitionTime": "2026-11-23T20:46:10Z",
    }
    status = {"phase": "Pending", "conditions": [refused]}
    replica = convert.replica_of(pod(status=status), "owner")
    assert replica.unschedulable == "0/3 nodes"
    assert replica.unschedulable_since == replica.created_at + 10


def test_a_gated_pod_is_not_refused_and_holds_its_gpus() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
    gated = pod(status={"phase": "Pending", "conditions": [waiting]})
    gated["spec"]["schedulingGates"] = [{"name": "kueue.x-k8s.io/admission"}]
    replica = convert.replica_of(gated, "owner")
    assert (replica.unschedulable, replica.gates) == ("", ("kueue.x-k8s.io/admission",))
    (node,) = convert.nodes_of([gpu_node("gpu-1")], [gated])
    assert [hold.count for hold in node.holds] == [2]


def test_a_time_that_a_person_wrote_wrongly_counts_as_none() -> None:
    annotations = {names.ANNOTATION_DRAINING_SINCE: "soon"}
    replica = convert.replica_of(pod(metadata__annotations=annotations), "owner")
    assert replica.draining_since is None
