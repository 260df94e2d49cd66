"""Which replicas stay, which go and how many are made: one tier, one step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from glm_operator.plan.demand import Demand
from glm_operator.plan.observed import GatewayReport, Node, Replica
from glm_operator.plan.replicas import (
    Fleet,
    can_serve,
    failures_in_a_row,
    node_fault,
    retry_at,
    worth,
)
from glm_operator.plan.room import Room


@dataclass(frozen=True, slots=True)
class View:
    """What decisions about replicas look at besides the replicas."""

    nodes: Mapping[str, Node]
    reports: tuple[GatewayReport, ...]
    now: float


@dataclass(frozen=True, slots=True)
class Target:
    """What the tier should come to."""

    revision: str
    desired: int
    demand: Demand


@dataclass(frozen=True, slots=True)
class Swap:
    """A serving predecessor that goes before its successor comes."""

    victim: Replica
    node: str
    """Where the successor will have room."""


@dataclass(frozen=True, slots=True)
class Moves:
    """One step towards the target."""

    keep: tuple[Replica, ...] = ()
    remove: tuple[Replica, ...] = ()
    """Usable replicas to drain and delete."""
    swap: Swap | None = None
    """Of those, the one that serves and makes room for its successor."""
    discard: tuple[Replica, ...] = ()
    """Failed, lost or stuck replicas to delete without a drain."""
    create: int = 0
    attempt: int = 0
    """Failures in a row that the new replicas inherit."""
    short: int = 0
    """Replicas wanted now for which there is no room."""
    prepare: str = ""
    """Node that has to get the weights before the one that serves there may make room."""
    retry_at: float | None = None
    """When the next failed replica may be replaced."""


@dataclass(frozen=True, slots=True)
class _Failures:
    """Failed pods: those whose successor may come, those whose may not yet, and the rest."""

    due: tuple[Replica, ...]
    waiting: tuple[Replica, ...]
    superseded: tuple[Replica, ...]


def step(fleet: Fleet, target: Target, view: View, room: Room) -> Moves:
    """The next step: never fewer serving by our own act than there could be.

    Where a slot is free a successor comes first and its predecessor goes once it serves. Where
    none is, one predecessor goes first, if its GPUs are what the successor needs.
    """
    ranked = sorted(fleet.usable, key=lambda one: worth(one, view.nodes, view.reports))
    kept = [one for one in ranked if one.revision == target.revision][: target.desired]
    old = [one for one in ranked if one.revision != target.revision]
    failures = _failures(fleet, target, target.desired - len(kept), view.now)
    wanted = _wanted(target.desired, kept, old, len(failures.waiting), view)
    create = room.count(target.demand, wanted)
    swap: Swap | None = None
    old_kept = _old_kept(kept, old, target.desired, view)
    prepare = ""
    if wanted > 0 and create == 0:
        swap = _gives_way(fleet, old_kept, kept, target, view, room)
        if swap is not None and not target.demand.holders.holds(swap.node):
            prepare, swap = swap.node, None
        old_kept = [one for one in old_kept if swap is None or one is not swap.victim]
    staying = {one.uid for one in (*kept, *old_kept)}
    return Moves(
        keep=(*kept, *old_kept),
        remove=tuple(one for one in reversed(ranked) if one.uid not in staying),
        swap=swap,
        discard=(
            *_discard_failed(failures, blocked=wanted > 0 and create == 0),
            *_discard_lost(fleet, target, view),
            *_discard_stuck(fleet, target.desired - _serving(kept, view)),
        ),
        create=create,
        attempt=max((failures_in_a_row(one) for one in (*failures.due, *fleet.stuck)), default=0),
        short=wanted - create,
        prepare=prepare,
        retry_at=min((retry_at(one) for one in failures.waiting), default=None),
    )


def _serving(replicas: Iterable[Replica], view: View) -> int:
    return sum(can_serve(one, view.nodes) for one in replicas)


def _wanted(
    desired: int, kept: Sequence[Replica], old: Sequence[Replica], waiting: int, view: View
) -> int:
    """New replicas to make now: all that is missing from service, else one beyond it at a time."""
    missing = desired - len(kept) - waiting
    serving = _serving(kept, view)
    starting = len(kept) - serving
    allowed = max(1, desired - serving - _serving(old, view)) - starting
    surge = desired + 1 - len(kept) - len(old)
    return max(0, min(missing, allowed, surge))


def _old_kept(
    kept: Sequence[Replica], old: Sequence[Replica], desired: int, view: View
) -> list[Replica]:
    """Replicas of older revisions that still serve in the place of successors."""
    places = max(0, desired - _serving(kept, view))
    return [one for one in old if can_serve(one, view.nodes)][:places]


def _gives_way(
    fleet: Fleet,
    old: Sequence[Replica],
    kept: Sequence[Replica],
    target: Target,
    view: View,
    room: Room,
) -> Swap | None:
    """The serving predecessor to remove where its successor has no other room.

    Only while nothing else is on its way out, and while the tier serves all that is wanted or can
    do so in the predecessors' places alone, so that no replica goes for one that would not come.
    """
    leaving = any(not node_fault(one, view.nodes) for one in fleet.terminating)
    short = _serving(kept, view) + len(old) < target.desired
    if leaving or (short and not _all_succeed(fleet, old, kept, target, view, room)):
        return None
    holders = target.demand.holders
    # One that drains goes on, then where the weights are: else each pass might prepare another.
    order = sorted(
        reversed(old), key=lambda one: (one.draining_since is None, holders.distance(one.node))
    )
    swaps = (_swap(one, target.demand, room) for one in order)
    return next((swap for swap in swaps if swap is not None), None)


def _all_succeed(
    fleet: Fleet,
    old: Sequence[Replica],
    kept: Sequence[Replica],
    target: Target,
    view: View,
    room: Room,
) -> bool:
    """Whether all that is missing has room once the predecessors are gone.

    Such as two replicas of a smaller checkpoint in the place of one. Not while a successor starts,
    failed or is stuck: others like it might fare no better.
    """
    tried = [*fleet.failed, *fleet.stuck]
    troubled = any(one.revision == target.revision for one in tried)
    if troubled or _serving(kept, view) < len(kept):
        return False
    missing, trial = target.desired - len(kept), room.copy()
    for one in old:
        trial.let_go(one)
    return trial.count(target.demand, missing) == missing


def _swap(replica: Replica, demand: Demand, room: Room) -> Swap | None:
    trial = room.copy()
    trial.let_go(replica)
    node = trial.take(demand)
    return None if node is None else Swap(replica, node.name)


def _failures(fleet: Fleet, target: Target, missing: int, now: float) -> _Failures:
    mine = [one for one in fleet.failed if one.revision == target.revision and missing > 0]
    return _Failures(
        due=tuple(one for one in mine if retry_at(one) <= now),
        waiting=tuple(one for one in mine if retry_at(one) > now),
        superseded=tuple(one for one in fleet.failed if one not in mine),
    )


def _discard_failed(failures: _Failures, *, blocked: bool) -> tuple[Replica, ...]:
    """A failed pod stays as the record of its failure until its successor is made."""
    return (*failures.superseded, *(() if blocked else failures.due))


def _discard_lost(fleet: Fleet, target: Target, view: View) -> tuple[Replica, ...]:
    """A lost replica may come back with its node; one that was never bound to it cannot.

    Kubernetes collects the bound pods of a node that is gone, and no others.
    """
    if target.desired == 0:
        return fleet.lost
    return tuple(one for one in fleet.lost if not one.bound and one.node not in view.nodes)


def _discard_stuck(fleet: Fleet, missing: int) -> tuple[Replica, ...]:
    """A stuck replica stays while its successor may get stuck too, the youngest longest.

    Its place counts as taken, so a successor goes elsewhere; one for each that is missing, so
    that a tier which fits nowhere does not take the whole cluster's places.
    """
    youngest_first = sorted(fleet.stuck, key=lambda one: (-one.created_at, one.name))
    return tuple(youngest_first[max(0, missing) :])
