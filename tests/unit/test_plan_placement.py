"""Where a new replica goes, and what is said when it can go nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from glm_operator.plan.demand import Demand, Queued
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Hold, Node, Replica, Taint
from glm_operator.plan.order import Rank
from glm_operator.plan.placement import Constraints, node_refusal, tolerates
from glm_operator.plan.room import ZONE_LABEL, Room
from glm_operator.plan.shortage import shortage

GPU = "nvidia.com/gpu"
MINE = Rank("ml", "vision", "flash", created_at=100.0)


def node(name: str, gpus: int = 8, held: int = 0, **more: object) -> Node:
    holds = (Hold(GPU, held, "ml", "other-pod", f"hold-{name}"),) if held else ()
    return Node(name, allocatable={GPU: gpus}, holds=holds, **more)  # type: ignore[arg-type]


def demand(gpus: int, tier: str = "flash", hole: int = 0) -> Demand:
    return Demand(tier, GPU, gpus, list, hole)


def replica(name: str, node_name: str, gpus: int, **more: object) -> Replica:
    return Replica(name, f"uid-{name}", "flash", "r", 0, 0.0, node=node_name, gpus=gpus, **more)  # type: ignore[arg-type]


def test_flash_goes_to_the_smallest_remainder() -> None:
    room = Room([node("a", held=0), node("b", held=6), node("c", held=4)], [])
    best = room.take(demand(1))
    assert best is not None
    assert best.name == "b"


def test_flash_keeps_whole_holes_for_the_flagship() -> None:
    # On `a` (4 free) one GPU breaks a hole of four; on `b` (5 free) none is lost.
    room = Room([node("a", held=4), node("b", held=3)], [])
    best = room.take(demand(1, hole=4))
    assert best is not None
    assert best.name == "b"


def test_siblings_spread_between_equal_nodes() -> None:
    room = Room([node("a", 2), node("b", 3, held=1)], [replica("x", "a", 0)])
    best = room.take(demand(1))
    assert best is not None
    assert best.name == "b"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (node("a", ready=False), "is not ready"),
        (node("a", unschedulable=True), "is cordoned"),
    ],
)
def test_an_unhealthy_node_takes_nothing_new(broken: Node, words: str) -> None:
    room = Room([broken], [])
    assert room.take(demand(1)) is None
    assert words in shortage(room, demand(1), MINE)


def test_a_pinned_pod_that_is_not_bound_yet_holds_its_gpus() -> None:
    room = Room([node("a", 4)], [replica("x", "a", 4)])
    assert room.take(demand(1)) is None


def test_a_replica_that_the_inventory_sees_is_counted_once() -> None:
    held = Node("a", allocatable={GPU: 4}, holds=(Hold(GPU, 2, "ml", "x", "uid-x"),))
    room = Room([held], [replica("x", "a", 2)])
    assert room.count(demand(1), 9) == 2


def test_a_failed_replica_holds_nothing() -> None:
    room = Room([node("a", 4)], [replica("x", "a", 4, phase="Failed")])
    assert room.count(demand(1), 9) == 4


def test_a_terminating_pod_holds_its_gpus() -> None:
    held = Node("a", allocatable={GPU: 4}, holds=(Hold(GPU, 4, "ml", "x", "u", terminating=True),))
    assert Room([held], []).take(demand(1)) is None


def test_counting_takes_nothing() -> None:
    room = Room([node("a", 4)], [])
    assert room.count(demand(1), 9) == 4
    assert room.count(demand(1), 9) == 4


def test_nodes_are_asked_once_however_many_replicas_are_placed() -> None:
    asked: list[int] = []

    def hosts(kinds: Kinds) -> list[Node]:
        asked.append(1)
        return list(kinds)

    room = Room([node(f"n-{index}") for index in range(50)], [])
    wanted = Demand("flash", GPU, 1, hosts, hosting="e")
    room.count(wanted, 30)
    for _ in range(30):
        room.take(wanted)
    room.copy().take(wanted)
    assert len(asked) == 1


def test_a_released_gpu_can_be_taken_again() -> None:
    room = Room([node("a", 1)], [replica("x", "a", 1)])
    assert room.take(demand(1)) is None
    room.release("a", GPU, 1)
    assert room.take(demand(1)) is not None
    assert room.take(demand(1)) is None


def test_a_copy_takes_nothing_from_its_original() -> None:
    room = Room([node("a", 2)], [])
    twin = room.copy()
    assert [twin.take(demand(1)) is not None for _ in range(3)] == [True, True, False]
    assert room.count(demand(1), 9) == 2


def test_two_tiers_share_what_is_free() -> None:
    room = Room([node("a", 4)], [])
    assert room.count(demand(1), 9) == 4
    assert room.take(demand(2, "flagship")) is not None
    assert room.count(demand(1), 9) == 2


def test_the_node_nearest_to_room_is_kept_for_a_waiting_replica() -> None:
    room = Room([node("a", held=5), node("b", held=6)], [])
    room.keep(demand(4, "flagship"), rank("flagship"), 1)
    best = room.take(demand(1))
    assert best is not None
    assert best.name == "b"


def test_what_is_kept_is_no_more_than_the_replica_needs() -> None:
    room = Room([node("a", held=5)], [])
    room.keep(demand(4, "flagship"), rank("flagship"), 1)
    assert room.take(demand(1)) is None
    room.release("a", GPU, 3)
    assert room.count(demand(1), 9) == 2


def test_waiting_replicas_have_each_a_node_of_their_own() -> None:
    room = Room([node("a", held=5), node("b", held=6), node("c", held=7)], [])
    room.keep(demand(4, "flagship"), rank("flagship"), 2)
    best = room.take(demand(1))
    assert best is not None
    assert best.name == "c"


def test_of_a_node_that_is_kept_as_a_whole_nothing_more_is_kept() -> None:
    whole = node("a", 4, held=1)
    room = Room([whole], [])
    room.keep(demand(4, "flagship"), rank("flagship"), 3)
    assert len(room.kept(whole, GPU)) == 1
    room.give_up(rank("flagship"))
    assert room.count(demand(1), 9) == 3


def test_the_rest_of_a_kept_node_is_kept_for_a_replica_that_needs_more() -> None:
    room = Room([node("a", 8)], [])
    room.keep(demand(6, "flagship"), rank("flagship"), 1)
    room.keep(demand(4, "text"), rank("text"), 1)
    assert room.take(demand(1)) is None


def test_what_no_node_could_host_keeps_nothing() -> None:
    room = Room([node("a", 4)], [])
    room.keep(demand(8, "flagship"), rank("flagship"), 1)
    assert room.count(demand(1), 9) == 4


def rank(tier: str = "flash", name: str = "vision", created_at: float = 100.0) -> Rank:
    return Rank("ml", name, tier, created_at)


def test_what_comes_first_is_let_in_and_what_comes_later_is_not() -> None:
    older, younger = rank(name="older", created_at=1.0), rank(name="younger", created_at=200.0)
    queued = [Queued(one, demand(2, ""), 1) for one in (younger, older)]
    room = Room([node("a", 8)], [], queued)
    room.let_in(MINE)
    assert room.count(demand(1), 9) == 6


def test_replicas_beyond_the_promised_wait_for_everything_promised() -> None:
    younger = Queued(rank(name="younger", created_at=200.0), demand(3, ""), 1)
    room = Room([node("a", 8)], [], [younger])
    room.let_in(MINE)
    load = replace(MINE, on_load=True)
    assert room.count(replace(demand(1), owed=6, later=load), 9) == 6
    assert room.count(replace(demand(1), owed=2, later=load), 9) == 5
    assert len(room.place(replace(demand(1), owed=2, later=load), 9)) == 5


def test_what_was_kept_for_a_tier_is_its_own_to_take() -> None:
    heir = replace(MINE, succeeds=True)
    home = frozenset({"b"})
    room = Room(
        [node("a", 2), node("b", 2, held=1)], [], [Queued(heir, replace(demand(1), homes=home), 1)]
    )
    room.let_in(MINE)
    assert room.count(demand(2, "other"), 9) == 1
    room.give_up(MINE)
    best = room.take(replace(demand(1), homes=home))
    assert best is not None
    assert best.name == "b"


def in_zone(name: str, zone: str, gpus: int = 8, held: int = 0) -> Node:
    return node(name, gpus, held, labels={ZONE_LABEL: zone})


def test_replicas_of_a_tier_spread_over_zones() -> None:
    nodes = [in_zone("a1", "a", 2), in_zone("a2", "a", 2), in_zone("b1", "b"), in_zone("c1", "c")]
    room = Room(nodes, [replica("x", "a1", 1)])
    placed = [one.name for one in room.place(demand(1), 5)]
    assert placed == ["b1", "c1", "a1", "b1", "c1"]


def test_a_zone_is_not_worth_a_hole() -> None:
    # On `a` no hole of four is lost by one GPU more, on `b` one is.
    room = Room([in_zone("a", "a", 8, held=1), in_zone("b", "b")], [replica("x", "a", 0)])
    best = room.take(demand(1, hole=4))
    assert best is not None
    assert best.name == "a"


def test_zones_cost_no_more_looks_at_nodes() -> None:
    room = Room([in_zone(f"n-{index}", f"z-{index % 3}") for index in range(60)], [])
    placed = room.place(demand(1), 30)
    zones = [one.labels[ZONE_LABEL] for one in placed]
    assert [zones.count(f"z-{index}") for index in range(3)] == [10, 10, 10]
    assert len({one.name for one in placed}) == 6


def test_the_shortage_names_the_best_node_and_who_holds_it() -> None:
    room = Room([node("gpu-node-1", held=7), node("gpu-node-2", 4, held=1)], [])
    assert shortage(room, demand(4), MINE) == (
        "needs 4 free GPUs on one node; best node gpu-node-2 has 3 free, 1 held by ml/other-pod"
    )


def test_the_shortage_says_who_comes_first_and_why() -> None:
    first = [
        Queued(rank("flagship", "other", 1.0), demand(4, ""), 1),
        Queued(replace(rank("flash", "third"), priority=9), demand(1, ""), 2),
    ]
    room = Room([node("a", 6)], [], first)
    room.let_in(MINE)
    room.keep(demand(8, "flagship"), rank("flagship"), 1)
    assert shortage(room, demand(1), MINE) == (
        "needs 1 free GPU on one node; best node a has 6 free,"
        " 2 are kept for ml/third flash, which comes first (higher priority),"
        " 4 are kept for ml/other flagship, which comes first (older)"
    )


def test_the_shortage_says_what_is_kept_for_another_tier_of_the_object() -> None:
    room = Room([node("a", 8, held=7)], [])
    room.keep(demand(8, "flagship"), rank("flagship"), 1)
    assert "1 free, 8 are kept for its own flagship, 7 held" in shortage(room, demand(1), MINE)


def test_the_shortage_prefers_a_node_that_is_healthy() -> None:
    room = Room([node("a", 8, ready=False), node("b", 2)], [])
    assert "best node b has 2 free" in shortage(room, demand(4), MINE)


def test_the_shortage_says_when_no_node_may_host_the_tier() -> None:
    nowhere = Demand("flash", GPU, 1, lambda _: [])
    assert "no node of this cluster may host it" in shortage(Room([node("a")], []), nowhere, MINE)


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"}, True),
        ({"key": "team", "value": "ml"}, True),
        ({"key": "team", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "team", "value": "web"}, False),
        ({"key": "team", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_follow_the_schedulers_rule(toleration: dict[str, str], expected: bool) -> None:
    assert tolerates(toleration, Taint("team", "ml", "NoSchedule")) is expected


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (Node("b"), "placement.nodeNames"),
        (Node("a"), "pool=gpu"),
        (Node("a", labels={"pool": "gpu"}, taints=(Taint("x", "", "NoSchedule"),)), "taint x"),
        (Node("a", labels={"pool": "gpu"}, taints=(Taint(GPU, "", "NoSchedule"),)), ""),
        (Node("a", labels={"pool": "gpu"}, taints=(Taint("x", "", "PreferNoSchedule"),)), ""),
    ],
)
def test_the_placement_of_a_tier_leaves_nodes_out_with_a_reason(
    candidate: Node, words: str
) -> None:
    wanted = Constraints(GPU, node_names=("a",), node_selector={"pool": "gpu"})
    refusal = node_refusal(candidate, wanted)
    assert (words in refusal) if words else refusal == ""
