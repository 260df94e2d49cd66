"""Where a new replica goes, and what is said when it can go nowhere."""

from __future__ import annotations

import pytest

from glm_operator.plan.observed import Hold, Node, Replica, Taint
from glm_operator.plan.placement import Constraints, Demand, Room, node_refusal, tolerates

GPU = "nvidia.com/gpu"


def node(name: str, gpus: int = 8, held: int = 0, **more: object) -> Node:
    holds = (Hold(GPU, held, "ml", "other-pod", f"hold-{name}"),) if held else ()
    return Node(name, allocatable={GPU: gpus}, holds=holds, **more)  # type: ignore[arg-type]


def demand(gpus: int, tier: str = "flash", hole: int = 0) -> Demand:
    return Demand(tier, GPU, gpus, lambda _: "", hole)


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
    assert words in room.shortage(demand(1))


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


def test_every_node_is_asked_once_however_many_replicas_are_placed() -> None:
    asked: list[str] = []

    def refuses(candidate: Node) -> str:
        asked.append(candidate.name)
        return ""

    room = Room([node(f"n-{index}") for index in range(50)], [])
    wanted = Demand("flash", GPU, 1, refuses, engine="e")
    room.count(wanted, 30)
    for _ in range(30):
        room.take(wanted)
    room.copy().take(wanted)
    assert len(asked) == 50


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


def test_a_withheld_node_is_kept_from_other_tiers() -> None:
    room = Room([node("a", held=5), node("b", held=6)], [])
    room.withhold_best(demand(4, "flagship"))
    best = room.take(demand(1))
    assert best is not None
    assert best.name == "b"


def test_the_shortage_names_the_best_node_and_who_holds_it() -> None:
    room = Room([node("gpu-node-1", held=7), node("gpu-node-2", 4, held=1)], [])
    assert room.shortage(demand(4)) == (
        "needs 4 free GPUs on one node; best node gpu-node-2 has 3 free, 1 held by ml/other-pod"
    )


def test_the_shortage_prefers_a_node_that_is_healthy() -> None:
    room = Room([node("a", 8, ready=False), node("b", 2)], [])
    assert "best node b has 2 free" in room.shortage(demand(4))


def test_the_shortage_says_when_no_node_may_host_the_tier() -> None:
    nowhere = Demand("flash", GPU, 1, lambda _: "has the wrong GPU")
    assert "no node of this cluster may host it" in Room([node("a")], []).shortage(nowhere)


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
