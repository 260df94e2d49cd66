"""Several objects, one cluster: who gets GPUs first, and what the others are told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from glm_operator.plan.claims import gives_back, served
from glm_operator.plan.observed import Hold, PriorityClasses
from glm_operator.plan.order import Claim, Rank
from plan_builders import FLAGSHIP, FLASH, GPU, OFF, engine, nodes
from shared_cluster import SharedCluster

TWO = FLAGSHIP | {"parallelism": {"tensor": "2"}}
FOUR = FLAGSHIP | {"parallelism": {"tensor": "4"}}
ONE_FLASH = FLASH | OFF
HOUR = 3600.0


def classed(tier: dict[str, Any], name: str) -> dict[str, Any]:
    return tier | {"placement": {"priorityClassName": name}}


def full(*gpus: int) -> SharedCluster:
    """Nodes whose GPUs somebody else holds."""
    shared = SharedCluster(nodes(*gpus))
    for name, node in shared.nodes.items():
        shared.tenants[name] = (Hold(GPU, node.allocatable[GPU], "other", "job", f"job-{name}"),)
    return shared


def free(shared: SharedCluster, node: str = "node-1", count: int = 99) -> None:
    """So many GPUs of a node are given back."""
    left = sum(hold.count for hold in shared.tenants[node]) - count
    shared.tenants[node] = (Hold(GPU, left, "other", "job", f"job-{node}"),) if left > 0 else ()


@pytest.mark.parametrize("first", ["older", "younger"])
def test_the_older_object_gets_what_becomes_free_whoever_looks_first(first: str) -> None:
    shared = full(2)
    shared.put("older", HOUR, flagship=TWO)
    shared.put("younger", 1.0, flagship=TWO)
    order = sorted(shared.objects, key=lambda name: name != first)
    for name in order:
        shared.pass_(name)
    free(shared)
    for name in order:
        shared.pass_(name)
    assert (shared.gpus("older"), shared.gpus("younger")) == (2, 0)


def test_a_higher_priority_comes_before_age() -> None:
    shared = full(2)
    shared.priorities = PriorityClasses({"urgent": 1000}, complete=True)
    shared.put("older", HOUR, flagship=TWO)
    shared.put("younger", 1.0, flagship=classed(TWO, "urgent"))
    for _ in range(2):
        shared.pass_("older")
        shared.pass_("younger")
        free(shared)
    assert (shared.gpus("older"), shared.gpus("younger")) == (0, 2)
    shared.pass_("older")
    assert "2 held by ml/younger" in shared.message("older")


def test_the_clusters_default_counts_where_no_class_is_named() -> None:
    shared = full(2)
    shared.priorities = PriorityClasses({"low": -5, "usual": 10}, default=10, complete=True)
    shared.put("older", HOUR, flagship=classed(TWO, "low"))
    shared.put("younger", 1.0, flagship=TWO)
    for _ in range(2):
        shared.pass_("older")
        shared.pass_("younger")
        free(shared)
    assert shared.gpus("younger") == 2


def test_an_unknown_priority_class_is_told_and_keeps_nothing_from_others() -> None:
    shared = SharedCluster(nodes(2))
    shared.priorities = PriorityClasses({"usual": 10}, complete=True)
    shared.put("older", HOUR, flagship=classed(TWO, "urgnet"))
    shared.put("younger", 1.0, flagship=TWO)
    shared.pass_("older")
    shared.pass_("younger")
    assert (shared.gpus("older"), shared.gpus("younger")) == (0, 2)
    assert shared.message("older") == (
        "flagship names the PriorityClass urgnet in placement.priorityClassName, and the cluster"
        " has none of that name: create it or name another."
    )
    (planned,) = [
        one for one in shared.objects["older"].status["conditions"] if one["type"] == "Planned"
    ]
    assert planned["reason"] == "PriorityClassMissing"


def test_a_promised_flagship_is_not_starved_by_an_older_objects_load() -> None:
    shared = full(4)
    busy = shared.put("older", HOUR, flash=FLASH | {"scaling": {"maxReplicas": 8}})
    free(shared, count=1)
    shared.settle(["older"])
    shared.put("younger", 1.0, flagship=TWO)
    shared.pass_("younger")
    for _ in range(2):
        busy.held["flash"] = 40
        shared.pass_("older")
        free(shared, count=1)
        shared.pass_("older")
    assert shared.gpus("older") == 1
    assert "needs 1 free GPU" in shared.message("older", "FlashAvailable")
    assert (
        "2 are kept for ml/younger flagship, which comes first"
        " (promised, and this one only follows the load)"
    ) in shared.message("older", "FlashAvailable")
    shared.pass_("younger")
    assert shared.gpus("younger") == 2


def test_what_waits_says_who_comes_first() -> None:
    shared = full(4, 1)
    shared.put("other", HOUR, flagship=FOUR)
    shared.put("vision", 1.0, flash=ONE_FLASH)
    shared.pass_("other")
    free(shared, count=3)
    shared.pass_("vision")
    assert shared.message("vision") == (
        "flash needs 1 free GPU on one node; best node node-1 has 3 free,"
        " 4 are kept for ml/other flagship, which comes first (older), 1 held by other/job."
    )


def test_what_no_node_could_host_keeps_nothing_from_others() -> None:
    shared = SharedCluster(nodes(4))
    shared.put("older", HOUR, flagship=FLAGSHIP | {"parallelism": {"tensor": "8"}})
    shared.put("younger", 1.0, flagship=FOUR)
    shared.pass_("older")
    shared.pass_("younger")
    assert shared.gpus("younger") == 4


def test_an_object_that_is_only_planned_keeps_nothing_from_others() -> None:
    shared = SharedCluster(nodes(2))
    shared.put("older", HOUR, flagship=TWO).edit(mode="Plan")
    shared.put("younger", 1.0, flagship=TWO)
    assert shared.pass_("older").claims == ()
    shared.pass_("younger")
    assert shared.gpus("younger") == 2


def test_what_is_planned_is_kept_before_its_pods_exist() -> None:
    shared = SharedCluster(nodes(2))
    shared.put("older", HOUR, flagship=TWO)
    shared.put("younger", 1.0, flagship=TWO)
    shared.claims["older"] = shared.look("older").plan().claims
    shared.pass_("younger")
    assert shared.gpus("younger") == 0
    shared.pass_("older")
    assert shared.claims["older"] == ()
    assert shared.gpus("older") == 2


def test_a_successor_has_the_gpus_that_its_predecessor_gave_up_for_it() -> None:
    shared = SharedCluster(nodes(2))
    mine = shared.put("younger", 1.0, flagship=TWO)
    shared.settle()
    shared.put("older", HOUR, flagship=TWO)
    shared.pass_("older")
    mine.edit(tiers__flagship__multimodal__maxImagesPerRequest=3)
    for _ in range(30):
        shared.pass_("older")
        shared.pass_("younger")
        shared.advance(20.0)
    assert shared.gpus("older") == 0
    assert {pod.revision for pod in mine.pods.values()} == {
        mine.status["tiers"]["flagship"]["revision"]
    }
    assert [pod.routable for pod in mine.pods.values()] == [True]


def test_an_object_that_begins_as_a_whole_keeps_room_for_all_of_it() -> None:
    shared = full(4, 1)
    shared.put("older", HOUR, flagship=FOUR, flash=ONE_FLASH)
    shared.pass_("older")
    shared.put("younger", 1.0, flash=ONE_FLASH)
    free(shared, "node-2")
    for name in ("younger", "older"):
        shared.pass_(name)
    assert (shared.gpus("older"), shared.gpus("younger")) == (0, 0)
    free(shared)
    for name in ("younger", "older"):
        shared.pass_(name)
    assert (shared.gpus("older"), shared.gpus("younger")) == (5, 0)


def test_the_first_replica_of_a_tier_that_others_scale_is_promised_and_no_more() -> None:
    shared = full(4)
    external = FLASH | {"scaling": {"mode": "External"}, "replicas": 3}
    shared.put("older", HOUR, flash=external)
    shared.pass_("older")
    found = [(one.rank.on_load, one.count) for one in shared.claims["older"]]
    # It begins as a whole: until then everything is wanted in one place of the order.
    assert found == [(False, 3)]
    free(shared, count=1)
    shared.objects["older"].edit(tiers__flash__replicas=1)
    shared.pass_("older")
    shared.objects["older"].edit(tiers__flash__replicas=3)
    shared.advance(20.0)
    shared.pass_("older")
    shared.advance(20.0)
    shared.pass_("older")
    assert [(one.rank.on_load, one.count) for one in shared.claims["older"]] == [(True, 2)]


RANK = Rank("ml", "vision", "flash", 100.0)


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (replace(RANK, succeeds=True, priority=-9), "it replaces a replica of its own"),
        (replace(RANK, priority=1, on_load=True), "higher priority"),
        (replace(RANK, name="a", created_at=1.0), "older"),
        (replace(RANK, name="a"), "as old, and first by name"),
    ],
)
def test_the_order_is_total_and_says_why(first: Rank, why: str) -> None:
    assert first.key < RANK.key
    assert first.why_before(RANK) == why


def test_the_load_comes_after_every_promise() -> None:
    load = replace(RANK, on_load=True, created_at=1.0)
    assert RANK.key < load.key
    assert "promised" in RANK.why_before(load)


def test_a_created_replica_is_claimed_no_more_the_first_place_first() -> None:
    heir = Claim(replace(RANK, succeeds=True), engine(), 1)
    promised, text = Claim(RANK, engine(), 2), Claim(replace(RANK, tier="text"), engine(), 1)
    once = served((promised, text, heir), "flash")
    assert once == (promised, text)
    assert served(once, "flash") == (replace(promised, count=1), text)


def test_claims_give_back_when_anything_of_them_is_less() -> None:
    two = Claim(RANK, engine(), 2)
    assert gives_back([two], [])
    assert gives_back([two], [replace(two, count=1)])
    assert gives_back([two], [replace(two, engine=engine(tensor=1))])
    assert not gives_back([two], [replace(two, count=3, hole=4)])
    assert not gives_back([], [two])
