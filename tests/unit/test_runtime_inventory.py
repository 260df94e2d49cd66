"""Nodes and GPU holders in memory, and whom a change concerns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from fake_cluster import gpu_node
from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.watch import Gone, Heard, Put, Snapshot, key_of
from glm_operator.plan.observed import Node
from glm_operator.runtime.inventory import Affected, Holder, Inventory, trim_pod

GPU = "nvidia.com/gpu"
KEY = ("ml", "vision")


def pod(name: str, node: str = "gpu-1", gpus: int = 2, engine: bool = False) -> dict[str, Any]:
    labels = {names.LABEL_DEPLOYMENT: "vision", names.LABEL_TIER: "flash"} if engine else {}
    return {
        "metadata": {"name": name, "namespace": "ml", "uid": f"uid-{name}", "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "c", "resources": {"limits": {GPU: str(gpus)}}}],
        },
    }


def holder(raw: dict[str, Any]) -> Holder:
    found = trim_pod(raw)
    assert found is not None
    return found


def put(raw: dict[str, Any]) -> Put[Holder]:
    return Put(key_of(raw), holder(raw))


def later(seconds: float, work: Callable[[], None]) -> None:
    """For a test in which no fall matters."""


@dataclass
class Stock:
    """An inventory with two nodes and one engine pod on gpu-1."""

    now: float = 100.0
    changes: list[Affected] = field(default_factory=list)
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inventory = Inventory(self.changes.append, lambda: self.now, self._later)
        nodes = [convert.node_of(gpu_node(name)) for name in ("gpu-1", "gpu-2")]
        self.inventory.node_change(Snapshot({("", one.name): one for one in nodes}))
        engine = pod("vision-flash-1-0", engine=True)
        self.inventory.pod_change(Snapshot({key_of(engine): holder(engine)}))
        self.changes.clear()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, work))

    def advance(self, seconds: float) -> None:
        """Let time pass and run what is due, in order."""
        end = self.now + seconds
        while due := sorted((one for one in self.timers if one[0] <= end), key=lambda one: one[0]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end

    def offered(self, node: str = "gpu-1") -> int | None:
        (found,) = [one for one in self.inventory.nodes() if one.name == node]
        return found.allocatable.get(GPU)

    def held(self, node: str = "gpu-1") -> int:
        (found,) = [one for one in self.inventory.nodes() if one.name == node]
        return sum(hold.count for hold in found.holds)

    def set_node(self, name: str = "gpu-1", **changes: Any) -> Node:
        raw = gpu_node(name)
        raw["status"]["allocatable"][GPU] = str(changes.get("gpus", 8))
        raw["status"]["conditions"][0]["status"] = "True" if changes.get("ready", True) else "False"
        raw["spec"]["unschedulable"] = changes.get("unschedulable", False)
        node = convert.node_of(raw)
        self.inventory.node_change(Put(("", name), node))
        return node


def test_it_is_synced_once_both_lists_were_seen() -> None:
    inventory = Inventory(lambda change: None, lambda: 0.0, later)
    inventory.node_change(Snapshot({}))
    assert not inventory.synced.is_set()
    inventory.pod_change(Snapshot({}))
    assert inventory.synced.is_set()


def test_nodes_come_by_name_with_what_is_held() -> None:
    stock = Stock()
    assert [node.name for node in stock.inventory.nodes()] == ["gpu-1", "gpu-2"]
    assert (stock.held("gpu-1"), stock.held("gpu-2")) == (2, 0)


def test_pods_without_gpus_are_not_kept_unless_they_are_ours() -> None:
    assert trim_pod(pod("web", gpus=0)) is None
    ours = trim_pod(pod("vision-flash-1-1", gpus=0, engine=True))
    assert ours is not None
    assert ours.owner == KEY


def test_a_new_pod_holds_and_a_gone_one_frees() -> None:
    stock = Stock()
    stock.inventory.pod_change(put(pod("job")))
    assert stock.held() == 4
    assert stock.changes == []
    stock.inventory.pod_change(Gone(("ml", "job")))
    assert stock.held() == 2
    assert stock.changes == [Affected(frees=True)]


def test_a_pod_that_is_unknown_may_go() -> None:
    stock = Stock()
    stock.inventory.pod_change(Gone(("ml", "never seen")))
    assert stock.changes == []


def test_a_relist_drops_what_is_no_more() -> None:
    stock = Stock()
    stock.inventory.pod_change(Snapshot({}))
    assert stock.held() == 0
    assert stock.changes == [Affected(frees=True)]


def test_a_pod_of_the_same_name_on_another_node_moves_the_hold() -> None:
    stock = Stock()
    stock.inventory.pod_change(put(pod("job", "gpu-1")))
    moved = pod("job", "gpu-2")
    moved["metadata"]["uid"] = "another"
    stock.inventory.pod_change(put(moved))
    assert (stock.held("gpu-1"), stock.held("gpu-2")) == (2, 2)


def test_a_created_pod_counts_before_the_watch_tells_of_it() -> None:
    stock = Stock()
    stock.inventory.assume(pod("vision-flash-1-1", engine=True))
    assert stock.held() == 4
    stock.inventory.pod_change(put(pod("vision-flash-1-1", engine=True)))
    assert stock.held() == 4


@pytest.mark.parametrize(
    ("first", "then", "frees"),
    [
        ({"ready": False}, {}, True),
        ({"unschedulable": True}, {}, True),
        ({"gpus": 4}, {"gpus": 8}, True),
        ({}, {"ready": False}, False),
        ({}, {"unschedulable": True}, False),
    ],
    ids=["ready again", "uncordoned", "more GPUs", "not ready", "cordoned"],
)
def test_a_node_that_can_take_more_frees_and_concerns_its_replicas(
    first: dict[str, Any], then: dict[str, Any], frees: bool
) -> None:
    stock = Stock()
    stock.set_node(**first)
    stock.changes.clear()
    stock.set_node(**then)
    assert stock.changes == [Affected(frozenset({KEY}), frees)]


def test_fewer_gpus_count_once_they_have_lasted() -> None:
    stock = Stock()
    stock.set_node(gpus=0)
    assert (stock.offered(), stock.changes) == (8, [])
    stock.advance(29.9)
    assert (stock.offered(), stock.changes) == (8, [])
    stock.advance(0.1)
    assert (stock.offered(), stock.changes) == (0, [Affected(frozenset({KEY}), False)])


def test_gpus_that_come_back_in_time_never_were_fewer() -> None:
    stock = Stock()
    stock.set_node(gpus=0)
    stock.advance(3)
    stock.changes.clear()
    stock.set_node(gpus=8)
    assert stock.changes == [Affected(frozenset({KEY}), True)], "what failed meanwhile is tried"
    stock.advance(60)
    assert stock.offered() == 8


def test_a_resource_that_vanishes_is_a_fall_too() -> None:
    stock = Stock()
    raw = gpu_node("gpu-1")
    del raw["status"]["allocatable"][GPU]
    stock.inventory.node_change(Put(("", "gpu-1"), convert.node_of(raw)))
    assert stock.offered() == 8
    stock.advance(30)
    assert stock.offered() is None


@pytest.mark.parametrize(
    ("reports", "counts"),
    [
        ([(0, 0), (5, 4)], [(29, 8), (30, 4)]),
        ([(0, 7), (29, 0), (31, 7)], [(29, 8), (30, 7), (90, 7)]),
        ([(0, 4), (20, 0)], [(29, 8), (30, 4), (49, 4), (50, 0)]),
        ([(0, 0), (10, 9), (15, 3)], [(12, 9), (44, 9), (45, 3)]),
        ([(0, 6), (10, 8), (20, 6)], [(49, 8), (50, 6)]),
    ],
    ids=["to a part", "a fall within a fall", "in two steps", "a rise between", "begun again"],
)
def test_what_counts_is_the_most_of_the_last_thirty_seconds(
    reports: list[tuple[float, int]], counts: list[tuple[float, int]]
) -> None:
    stock, seen = Stock(), []
    begin = stock.now
    for at, gpus in sorted([*reports, *((at, None) for at, _ in counts)], key=lambda one: one[0]):
        stock.advance(begin + at - stock.now)
        if gpus is None:
            seen.append((at, stock.offered()))
        else:
            stock.set_node(gpus=gpus)
    assert seen == counts


def test_a_node_that_is_not_ready_counts_as_that_at_once() -> None:
    stock = Stock()
    stock.set_node(gpus=0, ready=False)
    (node, _) = stock.inventory.nodes()
    assert (node.ready, node.allocatable[GPU]) == (False, 8)


def test_a_fall_of_a_node_that_is_gone_is_forgotten() -> None:
    stock = Stock()
    stock.set_node(gpus=4)
    stock.inventory.node_change(Gone(("", "gpu-1")))
    stock.set_node(gpus=2)
    assert stock.offered() == 2
    stock.advance(60)
    assert stock.offered() == 2


def test_a_heartbeat_concerns_nobody() -> None:
    stock = Stock()
    stock.set_node()
    stock.inventory.node_change(Heard())
    assert stock.changes == []


def test_a_node_that_is_gone_concerns_its_replicas() -> None:
    stock = Stock()
    stock.inventory.node_change(Gone(("", "gpu-1")))
    assert stock.changes == [Affected(frozenset({KEY}), False)]
    assert [node.name for node in stock.inventory.nodes()] == ["gpu-2"]


def test_a_new_node_frees() -> None:
    stock = Stock()
    stock.set_node("gpu-3")
    assert stock.changes == [Affected(frozenset(), True)]


def test_the_age_is_that_of_the_quieter_watch() -> None:
    stock = Stock()
    stock.now += 40
    stock.inventory.node_change(Heard())
    assert stock.inventory.age() == 40
    stock.inventory.pod_change(Heard())
    assert stock.inventory.age() == 0


def test_a_watch_that_never_lists_grows_old_from_its_begin() -> None:
    now = [1000.0]
    inventory = Inventory(lambda change: None, lambda: now[0], later)
    now[0] += 50
    assert inventory.age() == 0
    inventory.begin()
    now[0] += 400
    inventory.node_change(Snapshot({}))
    assert inventory.age() == 400
    assert not inventory.synced.is_set()


def test_what_ours_hold_is_the_plan() -> None:
    stock = Stock()
    stock.inventory.pod_change(put(pod("job")))
    assert stock.inventory.planned() == {GPU: 2}
