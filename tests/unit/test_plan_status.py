"""What the status says: conditions with reasons, times that tell the truth, columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import ModelCluster, gpu_node
from glm_operator.api import reasons
from glm_operator.plan.actions import Apply, DeletePod
from glm_operator.plan.conditions import Condition, render
from glm_operator.plan.observed import Hold
from plan_builders import FLAGSHIP, FLASH, GPU, cluster

STORED = [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}]


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    (kept,) = render([Condition("Ready", "False", "Other", "now so.")], STORED, 2, 1_800_000_000)
    (moved,) = render([Condition("Ready", "True", "Serving", "yes.")], STORED, 2, 1_800_000_000)
    assert kept["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert moved["lastTransitionTime"] == "2027-01-15T08:00:00Z"
    assert kept["observedGeneration"] == 2


def condition(found: ModelCluster, kind: str) -> dict[str, Any]:
    """One condition as a plan of now has it."""
    return next(one for one in found.plan().status["conditions"] if one["type"] == kind)


def settled(flash: dict[str, Any] = FLASH, **spec: Any) -> ModelCluster:
    made = cluster(8, flash=flash, **spec)
    made.settle()
    return made


def test_ready_comes_first_and_every_condition_is_there() -> None:
    assert [one["type"] for one in settled().status["conditions"]] == [
        "Ready",
        "Planned",
        "FlagshipAvailable",
        "FlashAvailable",
        "TextAvailable",
        "ToolCallVerified",
        "GatewayAvailable",
        "Progressing",
        "Degraded",
        "Unauthenticated",
    ]


def spoil(found: ModelCluster, **changes: Any) -> None:
    """Let the flagship's replica not be ready any more, for a reason."""
    name = found.of("flagship")[0].name
    found.change(name, containers_ready=False, **changes)


Spoil = Callable[[ModelCluster], None]
TROUBLES: dict[str, tuple[Spoil, str, str]] = {
    "image": (
        lambda one: spoil(one, waiting_reason="ImagePullBackOff", waiting_message="no such image"),
        "ImagePullFailed",
        "no such image",
    ),
    "crash": (
        lambda one: spoil(one, waiting_reason="CrashLoopBackOff", failure="OOMKilled: exit 137"),
        "EngineFailed",
        "OOMKilled: exit 137",
    ),
    "between two crashes": (
        lambda one: spoil(one, restarts=9, failure="Error, exit code 1: CUDA out of memory"),
        "EngineFailed",
        "CUDA out of memory",
    ),
    "queue": (
        lambda one: spoil(one, gates=("kueue.x-k8s.io/admission", "team.example/approval")),
        "SchedulingGated",
        "until these gates are lifted: kueue.x-k8s.io/admission, team.example/approval.",
    ),
    "scheduler": (
        lambda one: spoil(one, unschedulable="0/1 nodes: 1 Insufficient cpu"),
        "Unschedulable",
        "Insufficient cpu",
    ),
    "node": (lambda one: one.set_node("node-1", ready=False), "NodeLost", "node-1 is not ready"),
    "gone": (lambda one: one.nodes.pop("node-1"), "NodeLost", "node-1 is gone"),
    "ended": (
        lambda one: spoil(one, phase="Failed", failure="UnexpectedAdmissionError: no devices"),
        "EngineFailed",
        "UnexpectedAdmissionError",
    ),
    "check": (
        lambda one: spoil(
            one, verified=False, verify_reason="ImageCallFailed", verify_message="died at its image"
        ),
        "ImageCallFailed",
        "died at its image",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_tier_that_does_not_serve_says_what_is_wrong(trouble: str) -> None:
    spoiled, reason, words = TROUBLES[trouble]
    made = settled()
    spoiled(made)
    for kind, status in (("FlagshipAvailable", "False"), ("Ready", "False"), ("Degraded", "True")):
        found = condition(made, kind)
        assert (found["status"], found["reason"]) == (status, reason)
        assert words in found["message"]


def test_a_check_with_an_unknown_reason_is_still_told() -> None:
    made = settled()
    spoil(made, verified=False, verify_reason="FromTheFuture", verify_message="something else")
    found = condition(made, "ToolCallVerified")
    assert (found["status"], found["reason"]) == ("False", "NotChecked")
    assert "something else" in found["message"]


def test_a_replica_that_starts_is_no_trouble() -> None:
    made = cluster(8)
    made.reconcile()
    assert condition(made, "FlagshipAvailable")["reason"] == "Starting"
    assert condition(made, "Degraded")["status"] == "False"
    assert condition(made, "Progressing")["reason"] == "Starting"


@pytest.mark.parametrize(
    ("ready", "status", "reason", "object_ready"),
    [
        (2, "True", "GatewayReady", "True"),
        (1, "True", "GatewayDegraded", "True"),
        (0, "False", "GatewayStarting", "False"),
    ],
)
def test_without_a_gateway_nothing_is_ready(
    ready: int, status: str, reason: str, object_ready: str
) -> None:
    made = settled(gateway={"replicas": 2})
    made.children["Deployment", "vision-gateway"]["status"] = {"readyReplicas": ready}
    found = condition(made, "GatewayAvailable")
    assert (found["status"], found["reason"]) == (status, reason)
    assert condition(made, "Ready")["status"] == object_ready


def test_ready_is_not_true_for_an_edit_that_serves_nowhere_yet() -> None:
    made = settled()
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.reconcile()
    found = condition(made, "Ready")
    assert (found["status"], found["reason"]) == ("False", "RollingOut")
    assert found["observedGeneration"] == made.generation
    assert condition(made, "FlagshipAvailable")["status"] == "True"


def test_ready_is_not_true_while_a_gateway_routes_by_an_older_generation() -> None:
    made = settled()
    route = made.children["ConfigMap", "vision-gateway"]
    made.edit(routing__autoModel="other")
    made.reconcile()
    # As if the API server had refused the new configuration, or a gateway had not taken it up.
    made.children["ConfigMap", "vision-gateway"] = route
    found = condition(made, "Ready")
    assert (found["status"], found["reason"]) == ("False", "RollingOut")
    assert found["message"] == "vision-gateway-0 still routes by generation 1 of the object."


def test_ready_comes_only_after_a_gateway_was_heard_of() -> None:
    made = cluster(8)
    made.gateway_ages = []
    made.settle()
    assert "No gateway has told" in condition(made, "Ready")["message"]
    made.gateway_ages = [0.2]
    made.settle()
    assert condition(made, "Ready")["status"] == "True"


def test_ready_stays_true_while_no_gateway_can_be_asked_and_nothing_changed() -> None:
    made = settled()
    made.gateway_ages = []
    assert condition(made, "Ready")["status"] == "True"


def test_an_edit_that_leaves_the_routing_as_it_is_does_not_write_it_again() -> None:
    made = settled(flash={**FLASH, "scaling": {"mode": "Off"}})
    made.edit(tiers__flash__replicas=2)
    kinds = [one.manifest["kind"] for one in made.plan().actions if isinstance(one, Apply)]
    assert "ConfigMap" not in kinds
    assert condition(made, "Ready")["status"] == "True"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"routing__autoModel": "other"}, "autoModel"),
        ({"gateway": {"limits": {"maxHeldRequests": 5}}}, "limits"),
        ({"gateway": {"replicas": 3}}, "gateway"),
        ({"gateway": {"service": {"type": "NodePort"}}}, "gateway"),
        ({"tiers__flagship__replicas": 2}, "flagship.replicas"),
    ],
)
def test_an_edit_that_waits_while_paused_is_named(edit: dict[str, Any], named: str) -> None:
    made = settled()
    made.edit(mode="Paused", **edit)
    made.settle()
    for kind in ("Ready", "Planned"):
        found = condition(made, kind)
        assert (found["status"], found["reason"]) == ("False", "Paused")
        assert found["message"] == f"{named} has an edit that waits until mode is Live again."


def test_a_replica_that_waits_for_its_predecessor_to_leave_lacks_nothing() -> None:
    made = cluster(2)
    made.settle()
    (pod,) = made.of("flagship")
    made.execute(DeletePod(pod.name, pod.uid, None, "a person did"))
    found = made.reconcile()
    assert condition(made, "Planned")["status"] == "True"
    assert condition(made, "Degraded")["status"] == "False"
    ready = condition(made, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Starting")
    assert ready["message"] == "flagship waits for its own replica to leave."
    assert not [one for one in found.events if one.type == "Warning"]


def test_a_predecessor_that_ended_holds_no_gpu_that_a_replica_could_wait_for() -> None:
    made = cluster(2)
    made.settle()
    (pod,) = made.of("flagship")
    made.change(pod.name, phase="Failed", terminating=True)
    made.deleting_since[pod.name] = made.now
    made.set_node("node-1", holds=(Hold(GPU, 1, "other", "job", "uid-job"),))
    made.reconcile()
    assert condition(made, "Planned")["reason"] == "WaitingForGPUs"


@pytest.mark.parametrize("mode", ["Live", "Plan"])
def test_an_edit_that_fits_in_the_place_of_what_runs_fits(mode: str) -> None:
    made = cluster(2)
    made.settle()
    made.edit(mode=mode, tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.reconcile()
    assert condition(made, "Planned")["status"] == "True"
    assert condition(made, "Degraded")["status"] == "False"


def test_the_plan_shows_the_figures_of_the_gpus_that_replicas_are_on() -> None:
    made = cluster(2, flagship=None, flash=FLASH | {"scaling": {"mode": "Off"}})
    made.nodes["node-0"] = gpu_node("node-0", 1, "NVIDIA-L40S", 46_068)
    made.settle()
    shown = made.status["plan"]["flash"]
    assert (shown["nodes"], shown["gpu"]) == (["node-0"], "NVIDIA-L40S")
    assert shown["kvTokens"] < 500_000


def test_more_than_one_missing_replica_is_counted() -> None:
    made = cluster(2, flagship={**FLAGSHIP, "replicas": 1})
    made.settle()
    made.edit(tiers__flagship__replicas=4)
    assert "lacks 3 replicas: one needs 2 free GPUs" in condition(made, "Planned")["message"]


def test_one_of_two_replicas_is_ready_and_says_so() -> None:
    made = cluster(8, flagship=FLAGSHIP | {"replicas": 2})
    made.settle()
    spoil(made)
    assert condition(made, "Ready")["status"] == "True"
    assert condition(made, "FlagshipAvailable")["message"] == "1 of 2 replicas serve."
    assert made.plan().status["tiers"]["flagship"]["summary"] == "1/2"


def test_a_replica_that_lacks_a_gpu_degrades_what_serves() -> None:
    made = cluster(2)
    made.settle()
    made.edit(tiers__flagship__replicas=2)
    made.reconcile()
    assert condition(made, "Ready")["status"] == "True"
    assert condition(made, "Degraded")["reason"] == "ReplicasMissing"
    assert condition(made, "Planned")["reason"] == "WaitingForGPUs"


@pytest.mark.parametrize(
    ("mode", "status", "reason"),
    [("Off", "False", "Unavailable"), ("External", "False", "Unavailable")],
)
def test_flash_at_zero_is_asleep_only_where_something_wakes_it(
    mode: str, status: str, reason: str
) -> None:
    flash = FLASH | {"scaling": {"mode": mode}, "replicas": 0}
    made = cluster(8, flash=flash)
    made.settle()
    found = condition(made, "FlashAvailable")
    assert (found["status"], found["reason"]) == (status, reason)


def test_the_scale_subresource_finds_its_numbers() -> None:
    made = settled()
    shown = made.status["tiers"]["flash"]
    assert (shown["replicas"], shown["desiredReplicas"], shown["scaledBy"]) == (1, 1, "Operator")
    assert shown["selector"] == "glm-operator.io/deployment=vision,glm-operator.io/tier=flash"


@pytest.mark.parametrize(
    ("scaling", "owner"), [("Internal", "Operator"), ("External", "Scale"), ("Off", "Spec")]
)
def test_the_status_names_who_writes_replicas(scaling: str, owner: str) -> None:
    made = cluster(8, flash=FLASH | {"scaling": {"mode": scaling}})
    status = made.plan().status["tiers"]
    assert (status["flash"]["scaledBy"], status["flagship"]["scaledBy"]) == (owner, "Spec")


def test_the_address_is_shown_once_there_is_a_gateway() -> None:
    made = cluster(8, mode="Plan")
    assert made.plan().status["gateway"] == {}
    assert settled().status["gateway"] == {"url": "http://vision-gateway.ml.svc/v1"}


def test_no_message_holds_a_time() -> None:
    made = settled()
    spoil(made, phase="Failed", failure="Evicted", failed_at=made.now)
    messages = [one["message"] for one in made.plan().status["conditions"]]
    assert not [one for one in messages if re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", one)]
    later = replace(made.observed(), status=made.plan().status)
    assert later.status == made.plan().status


def test_every_event_has_a_reason_of_the_catalogue() -> None:
    made = cluster(8, flash=FLASH)
    seen = {one.reason for one in made.reconcile().events}
    made.settle()
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    for _ in range(40):
        seen |= {one.reason for one in made.reconcile().events}
        made.advance(5)
    assert {"ReplicaCreated", "ReplicaRemoved", "RestartsTier"} <= seen
    assert all(reasons.Kind.EVENT in reasons.CATALOGUE[one].kinds for one in seen)


def test_trouble_is_told_once() -> None:
    made = cluster(1)
    first = [one.reason for one in made.reconcile().events]
    assert first == ["DoesNotFit"]
    assert made.reconcile().events == ()
