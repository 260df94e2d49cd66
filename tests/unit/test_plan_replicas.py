"""What a replica is good for, when its drain is over, when its successor may come."""

from __future__ import annotations

from typing import Any

import pytest

from glm_operator.plan.observed import GatewayReport
from glm_operator.plan.replicas import (
    SILENT_GATEWAY_SECONDS,
    can_serve,
    fleet,
    is_drained,
    is_serving,
    is_stuck,
    needs_verification,
    retry_at,
    worth,
)
from plan_builders import NOW, failed, nodes, replica, report, starting

SOUND = nodes(8, 8)
SICK = {name: node.__class__(name, ready=False) for name, node in SOUND.items()}


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"verified": False}, False),
        ({"verified": None}, False),
        ({"verified_container": "an older one"}, False),
        ({"container_id": "", "verified_container": ""}, False),
        ({"containers_ready": False}, False),
        ({"draining_since": NOW}, False),
        ({"terminating": True}, False),
        ({"phase": "Failed"}, False),
        ({"node": "node-9"}, False),
    ],
)
def test_a_replica_is_routable_only_when_all_is_well(changes: dict[str, Any], serves: bool) -> None:
    assert is_serving(replica(**changes), SOUND) is serves


def test_a_sick_node_takes_its_replica_out_of_routing() -> None:
    assert not is_serving(replica(), SICK)


def test_a_draining_replica_still_answers() -> None:
    assert can_serve(replica(draining_since=NOW), SOUND)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"verified": None}, True),
        ({"verified": False}, True),
        ({"container_id": "c2"}, True),
        ({}, False),
        ({"verified": None, "containers_ready": False}, False),
        ({"verified": None, "terminating": True}, False),
        ({"verified": None, "draining_since": NOW}, False),
        ({"verified": None, "node": "node-9"}, False),
    ],
)
def test_an_engine_is_checked_when_its_container_was_not(
    changes: dict[str, Any], wanted: bool
) -> None:
    assert needs_verification(replica(**changes), SOUND) is wanted


def test_a_fleet_sorts_every_pod_once() -> None:
    pods = [
        replica("serving"),
        starting("starting"),
        replica("lost", node="node-9"),
        starting("stuck", bound=False, unschedulable="no memory", created_at=NOW - 60),
        failed("failed"),
        replica("leaving", terminating=True, node="node-2"),
        failed("gone", terminating=True),
    ]
    found = fleet(pods, SOUND, NOW)
    assert [one.name for one in found.usable] == ["serving", "starting"]
    assert [one.name for one in found.lost] == ["lost"]
    assert [one.name for one in found.stuck] == ["stuck"]
    assert [one.name for one in found.failed] == ["failed"]
    assert [one.name for one in found.terminating] == ["gone", "leaving"]


@pytest.mark.parametrize(
    ("changes", "stuck"),
    [
        ({"unschedulable_since": NOW - 14}, False),
        ({"unschedulable_since": NOW - 15}, True),
        ({"unschedulable_since": NOW - 29, "attempt": 1}, False),
        ({"unschedulable_since": NOW - 30, "attempt": 1}, True),
        ({"unschedulable_since": None}, True),
        ({"unschedulable_since": NOW - 15, "bound": True}, False),
        ({"unschedulable_since": NOW - 15, "node": ""}, False),
        ({"unschedulable": "", "gates": ("kueue.x-k8s.io/admission",)}, False),
    ],
    ids=[
        "refused a moment ago",
        "refused for long",
        "the second in a row, early",
        "the second in a row",
        "a scheduler that tells no time",
        "bound",
        "not pinned",
        "held back by a queue",
    ],
)
def test_a_pinned_replica_is_stuck_once_the_scheduler_has_refused_it_for_long(
    changes: dict[str, Any], stuck: bool
) -> None:
    refused = {"bound": False, "unschedulable": "no memory", "created_at": NOW - 500}
    assert is_stuck(starting("a", **(refused | changes)), NOW) is stuck


@pytest.mark.parametrize(
    ("victim", "stuck"),
    [
        ({"terminating": True}, False),
        ({"draining_since": NOW - 200}, False),
        ({"terminating": True, "node": "node-2"}, True),
        ({"terminating": True, "phase": "Failed"}, True),
        ({}, True),
    ],
    ids=["terminating", "draining", "on another node", "ended already", "staying"],
)
def test_a_successor_that_waits_for_its_victims_gpus_is_not_stuck(
    victim: dict[str, Any], stuck: bool
) -> None:
    successor = starting("b", bound=False, unschedulable="no GPU", created_at=NOW - 200)
    found = fleet([replica("a", **victim), successor], nodes(8, 8), NOW)
    assert (successor in found.stuck) is stuck
    assert (successor in found.usable) is not stuck


def test_the_least_valuable_replica_is_pending_then_draining_then_idle_then_young() -> None:
    reports = [report(replicas={"busy": 3})]
    pods = [
        starting("pending"),
        replica("draining", draining_since=NOW),
        replica("young", created_at=NOW - 1),
        replica("idle", created_at=NOW - 5000),
        replica("busy"),
    ]
    ranked = sorted(pods, key=lambda one: worth(one, SOUND, reports))
    assert [one.name for one in ranked] == ["busy", "idle", "young", "draining", "pending"]


SINCE = NOW - 10.0
FREE: dict[str, Any] = {"replicas": {}}


@pytest.mark.parametrize(
    ("reports", "age", "drained"),
    [
        ([report(**FREE)], 10.0, True),
        ([report(replicas={"a": 0})], 10.0, True),
        ([report(replicas={"a": 1})], 10.0, False),
        ([report(routable=frozenset({"a"}))], 10.0, False),
        ([report(**FREE), report(pod="g-1", replicas={"a": 1})], 10.0, False),
        ([report(age=1.0, **FREE)], 0.5, False),
        ([report(age=60.0, **FREE)], SILENT_GATEWAY_SECONDS - 1, False),
        ([report(age=60.0, **FREE)], SILENT_GATEWAY_SECONDS, True),
        ([report(age=60.0, **FREE), report(pod="g-1", replicas={"a": 1})], 10.0, False),
        ([report(age=3.5, replicas={"a": 2})], 60.0, False),
        ([report(age=5.0, replicas={"a": 2})], 60.0, True),
        ([report(age=0.5, heard=False)], 60.0, False),
        ([report(age=5.0, heard=False)], 60.0, True),
        ([], SILENT_GATEWAY_SECONDS - 1, False),
        ([], SILENT_GATEWAY_SECONDS, True),
        ([report(replicas={"a": 1})], 300.0, True),
    ],
    ids=[
        "not mentioned",
        "nothing in flight",
        "in flight",
        "gateway has not let go",
        "another gateway is busy",
        "the report is older than the drain",
        "silent gateway, early",
        "silent gateway",
        "one silent, one busy",
        "a busy one that missed a few polls",
        "a busy one that went silent",
        "not heard yet, as after a restart of the operator",
        "never heard",
        "no gateway, early",
        "no gateway",
        "time is up",
    ],
)
def test_a_drain_ends_when_every_gateway_let_go(
    reports: list[GatewayReport], age: float, drained: bool
) -> None:
    draining = replica(draining_since=NOW - age)
    assert is_drained(draining, reports, timeout_seconds=300, now=NOW) is drained


def test_a_replica_that_does_not_drain_is_not_drained() -> None:
    assert not is_drained(replica(), [report()], 300, NOW)


@pytest.mark.parametrize(
    ("attempt", "lived", "delay"),
    [(0, 1, 0), (1, 1, 10), (2, 1, 20), (3, 1, 40), (9, 1, 300), (50, 1, 300), (9, 3600, 0)],
)
def test_the_back_off_doubles_and_forgets_after_a_long_life(
    attempt: int, lived: float, delay: float
) -> None:
    ended = failed("x", attempt=attempt, created_at=NOW - lived)
    assert retry_at(ended) == NOW + delay
