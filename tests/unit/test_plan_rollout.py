"""One step of a tier: who stays, who goes, who comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from glm_operator.plan.demand import Demand
from glm_operator.plan.observed import Node, Replica
from glm_operator.plan.replicas import fleet
from glm_operator.plan.rollout import Moves, Target, View, step
from glm_operator.plan.room import Room
from plan_builders import FLAGSHIP, GPU, NOW, failed, nodes, replica, settled, starting


def move(
    pods: Sequence[Replica], desired: int, gpus: int = 8, extra: dict[str, Node] | None = None
) -> Moves:
    """One step towards `desired` replicas of revision `new`, one GPU each."""
    all_nodes = nodes(gpus) | (extra or {})
    view = View(all_nodes, (), NOW)
    target = Target("new", desired, Demand("flash", GPU, 1, list))
    return step(fleet(pods, all_nodes, NOW), target, view, Room(all_nodes.values(), pods))


def names(replicas: Sequence[Replica]) -> list[str]:
    return [one.name for one in replicas]


def old(name: str, **more: object) -> Replica:
    return replica(name, revision="old", **more)


def test_a_new_tier_is_begun_at_once() -> None:
    assert move([], 3).create == 3


def test_what_is_missing_is_made() -> None:
    assert move([replica("a")], 3).create == 2


def test_nothing_moves_where_all_is_as_wanted() -> None:
    moves = move([replica("a"), replica("b")], 2)
    assert (names(moves.keep), moves.remove, moves.create) == (["a", "b"], (), 0)


def test_the_least_valuable_replica_goes() -> None:
    assert names(move([replica("a"), starting("b")], 1).remove) == ["b"]


def test_a_draining_replica_is_taken_back_before_one_is_made() -> None:
    moves = move([replica("a"), replica("b", draining_since=NOW)], 2)
    assert names(moves.keep) == ["a", "b"]
    assert moves.create == 0


def test_a_drain_goes_on_with_the_same_replica() -> None:
    pods = [replica("a", draining_since=NOW, created_at=0.0), replica("b")]
    assert names(move(pods, 1).remove) == ["a"]


def test_a_rollout_makes_the_successor_first() -> None:
    moves = move([old("a"), old("b")], 2)
    assert (names(moves.keep), moves.create) == (["a", "b"], 1)


def test_a_rollout_makes_one_at_a_time() -> None:
    assert move([old("a"), old("b"), starting("n")], 2).create == 0


def test_a_predecessor_goes_once_its_successor_serves() -> None:
    moves = move([old("a"), old("b"), replica("n")], 2)
    assert names(moves.remove) == ["b"]
    assert moves.create == 0


def test_predecessors_that_do_not_serve_go_at_once() -> None:
    moves = move([starting("a", revision="old"), old("b")], 2)
    assert names(moves.remove) == ["a"]


def test_a_broken_revision_is_replaced_as_fast_as_there_is_room() -> None:
    broken = [starting(name, revision="old") for name in "abc"]
    assert move(broken, 3).create == 1
    assert move([], 3).create == 3


def test_without_a_slot_one_predecessor_gives_way() -> None:
    moves = move([old("a"), old("b")], 2, gpus=2)
    assert (names(moves.keep), names(moves.remove), moves.create) == (["a"], ["b"], 0)


def test_without_a_slot_the_same_predecessor_goes_on_giving_way() -> None:
    moves = move([old("a", draining_since=NOW), old("b")], 2, gpus=2)
    assert names(moves.remove) == ["a"]


def test_none_gives_way_while_another_is_leaving() -> None:
    moves = move([old("a"), old("b", terminating=True)], 2, gpus=2)
    assert names(moves.keep) == ["a"]


def test_none_gives_way_while_the_tier_is_short() -> None:
    # Somebody else took the GPU that `b` gave back.
    moves = move([old("a")], 2, gpus=1)
    assert (names(moves.keep), moves.short) == (["a"], 1)


def test_one_gives_way_to_all_that_is_missing() -> None:
    moves = move([old("a", gpus=2)], 2, gpus=2)
    assert (names(moves.remove), moves.create) == (["a"], 0)


@pytest.mark.parametrize(
    ("trouble", "desired", "gpus"),
    [
        (starting("x"), 3, 3),
        (failed("x"), 2, 2),
        (starting("x", bound=False, phase="Pending", unschedulable="no"), 2, 3),
    ],
    ids=["starts", "failed", "stuck"],
)
def test_none_gives_way_to_successors_that_may_not_come_up(
    trouble: Replica, desired: int, gpus: int
) -> None:
    assert names(move([old("a", gpus=2), trouble], desired, gpus=gpus).remove) == []


def test_none_gives_way_for_nothing() -> None:
    # What the predecessor holds is not where the successor could go.
    small = nodes(2)["node-1"]
    pods = [old("a", node="node-2")]
    all_nodes = {"node-2": Node("node-2", allocatable={GPU: 1}, unschedulable=True)}
    moves = move([*pods, old("b"), old("c")], 3, gpus=small.allocatable[GPU], extra=all_nodes)
    assert names(moves.remove) == ["c"]


def test_a_slot_that_becomes_free_takes_the_drain_back() -> None:
    moves = move([old("a", draining_since=NOW), old("b")], 2, gpus=3)
    assert names(moves.keep) == ["b", "a"]
    assert moves.create == 1


def test_a_lost_replica_is_replaced_and_not_deleted() -> None:
    moves = move([replica("a", node="node-9")], 1)
    assert (moves.create, moves.discard) == (1, ())


def test_a_lost_replica_that_is_back_makes_one_superfluous() -> None:
    moves = move([replica("a"), replica("b", created_at=NOW - 5)], 1)
    assert names(moves.remove) == ["b"]


def test_an_unwanted_tier_gives_up_lost_replicas_too() -> None:
    moves = move([replica("a", node="node-9"), replica("b")], 0)
    assert (names(moves.discard), names(moves.remove)) == (["a"], ["b"])


def test_a_failed_replica_is_replaced() -> None:
    moves = move([failed("a")], 1)
    assert (moves.create, names(moves.discard), moves.attempt) == (1, ["a"], 1)


def test_a_replica_that_failed_again_waits() -> None:
    moves = move([failed("a", attempt=1)], 1)
    assert (moves.create, moves.discard, moves.retry_at) == (0, (), NOW + 10)


def test_a_failed_replica_stays_as_a_record_until_there_is_room() -> None:
    moves = move([failed("a"), replica("b")], 2, gpus=1)
    assert (moves.create, moves.discard, moves.short) == (0, (), 1)


@pytest.mark.parametrize("pods", [[failed("a"), replica("b")], [failed("a", revision="old")]])
def test_a_failed_replica_that_nobody_needs_is_deleted(pods: list[Replica]) -> None:
    assert names(move(pods, 1).discard) == ["a"]


def test_want_of_room_is_told() -> None:
    moves = move([replica("a")], 4, gpus=2)
    assert (moves.create, moves.short) == (1, 2)


def refused(name: str, seconds: float = 90.0, **more: object) -> Replica:
    """A pinned replica that the scheduler has refused since so many seconds."""
    waiting = {"bound": False, "phase": "Pending", "unschedulable": "1 Insufficient memory."}
    return starting(name, created_at=NOW - seconds, **waiting, **more)


def test_a_replica_that_the_scheduler_refuses_for_long_is_made_again_elsewhere() -> None:
    moves = move([refused("a")], 1)
    assert (moves.create, moves.discard, moves.keep) == (1, (), ())


def test_a_replica_that_was_refused_a_moment_ago_may_still_be_placed() -> None:
    moves = move([refused("a", 10)], 1)
    assert (moves.create, names(moves.keep)) == (0, ["a"])


def test_a_stuck_replica_goes_once_its_successor_serves() -> None:
    assert names(move([refused("a"), replica("b")], 1).discard) == ["a"]


def test_a_stuck_replica_stays_where_there_is_no_other_place() -> None:
    moves = move([refused("a")], 1, gpus=1)
    assert (moves.create, moves.discard, moves.short) == (0, (), 1)


def test_of_stuck_replicas_only_the_youngest_keeps_its_place() -> None:
    moves = move([refused("a", 200), refused("b", 100)], 1)
    assert (moves.create, names(moves.discard)) == (1, ["a"])


def test_a_replica_that_was_pinned_to_a_node_that_is_gone_goes() -> None:
    never = refused("a", node="node-9")
    assert names(move([never, replica("b")], 1).discard) == ["a"]


def test_two_replicas_of_a_smaller_checkpoint_take_the_place_of_one() -> None:
    made = settled(4, flagship=FLAGSHIP | {"parallelism": {"tensor": "4"}})
    made.edit(tiers__flagship=FLAGSHIP | {"replicas": 2})
    made.settle()
    assert len(made.routable("flagship")) == 2
    assert {pod.gpus for pod in made.of("flagship")} == {2}
