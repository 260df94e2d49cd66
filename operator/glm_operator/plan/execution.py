"""From one tier's moves to actions: labels, drains, deletions and new pods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glm_operator.api import names
from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import NodeWish, PodIdentity, engine_pod
from glm_operator.manifests.labels import Owner
from glm_operator.plan import times
from glm_operator.plan.actions import CreatePod, DeletePod, PatchPod, TryPod
from glm_operator.plan.demand import Demand
from glm_operator.plan.observed import Node, Replica
from glm_operator.plan.replicas import (
    Fleet,
    can_serve,
    had_traffic,
    is_drained,
    is_serving,
    stuck_at,
)
from glm_operator.plan.rollout import Moves, View
from glm_operator.plan.room import Room

DRAIN_POLL_SECONDS = 1.0
"""Gateways are polled once a second; a drain is looked at as often."""


@dataclass(slots=True)
class Steps:
    """Actions of all tiers by urgency: whatever leaves routing leaves it first."""

    off: list[PatchPod] = field(default_factory=list)
    on: list[PatchPod] = field(default_factory=list)
    delete: list[DeletePod] = field(default_factory=list)
    create: list[CreatePod] = field(default_factory=list)
    swap: list[TryPod | PatchPod | DeletePod] = field(default_factory=list)
    """Last of all, because a refused trial ends the execution: what goes before its successor."""
    wake_at: list[float] = field(default_factory=list)
    """Times at which the plan must be looked at again though nothing may have happened."""


def label_only(replicas: Iterable[Replica], view: View, steps: Steps) -> None:
    """Keep the routable label true to the facts and move nothing."""
    for replica in replicas:
        _patch(replica, is_serving(replica, view.nodes), replica.draining_since, steps)


def carry_out(
    fleet: Fleet,
    moves: Moves,
    view: View,
    drain_seconds: float,
    steps: Steps,
    trial: TryPod | None = None,
) -> None:
    """Add what the moves mean for the replicas that exist. `trial`: of the swap's successor."""
    for replica in (*fleet.lost, *fleet.stuck, *fleet.failed, *fleet.terminating):
        _patch(replica, False, replica.draining_since, steps)
    for replica in moves.keep:
        _patch(replica, can_serve(replica, view.nodes), None, steps)
        stuck = stuck_at(replica)
        steps.wake_at.extend([] if stuck is None else [stuck])
    for replica in moves.remove:
        if moves.swap is not None and replica.uid == moves.swap.victim.uid:
            _swap(replica, trial, view, drain_seconds, steps)
        else:
            _remove(replica, view, drain_seconds, steps)
    for replica in moves.discard:
        steps.delete.append(DeletePod(replica.name, replica.uid, None, _why(replica, fleet)))
    if moves.retry_at is not None:
        steps.wake_at.append(moves.retry_at)


def _why(replica: Replica, fleet: Fleet) -> str:
    if replica in fleet.failed:
        return "it failed"
    if replica in fleet.stuck:
        return f"the scheduler cannot place it: {replica.unschedulable}"
    return "it is lost and not wanted any more"


def _patch(replica: Replica, routable: bool, since: float | None, steps: Steps) -> None:
    labels: dict[str, str | None] = {}
    annotations: dict[str, str | None] = {}
    if routable != replica.routable:
        labels[names.LABEL_ROUTABLE] = "true" if routable else None
    if since != replica.draining_since:
        text = None if since is None else times.to_exact_text(since)
        annotations[names.ANNOTATION_DRAINING_SINCE] = text
    if labels or annotations:
        leaving = since is not None or not routable
        patch = PatchPod(replica.name, replica.uid, labels, annotations)
        (steps.off if leaving else steps.on).append(patch)


def _remove(replica: Replica, view: View, drain_seconds: float, steps: Steps) -> None:
    if not had_traffic(replica) and replica.draining_since is None:
        why = "it is not wanted and never served"
        steps.delete.append(DeletePod(replica.name, replica.uid, None, why))
        return
    since = view.now if replica.draining_since is None else replica.draining_since
    _patch(replica, False, since, steps)
    if replica.draining_since is not None and is_drained(
        replica, view.reports, drain_seconds, view.now
    ):
        why = "it is drained and not wanted any more"
        steps.delete.append(DeletePod(replica.name, replica.uid, None, why))
    else:
        steps.wake_at.append(view.now + DRAIN_POLL_SECONDS)


def _swap(
    victim: Replica, trial: TryPod | None, view: View, drain_seconds: float, steps: Steps
) -> None:
    """A drain that has begun goes on; before that the successor is tried."""
    removal = Steps()
    _remove(victim, view, drain_seconds, removal)
    tried = [trial] if trial is not None and victim.draining_since is None else []
    steps.swap.extend([*tried, *removal.off, *removal.delete])
    steps.wake_at.extend(removal.wake_at)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where new replicas have room."""

    pods: list[CreatePod]
    """Those that can be made now."""
    prepare: list[str]
    """Nodes of the others, which lack the weights."""


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes the pods of one tier."""

    owner: Owner
    spec: EngineSpec
    revision: str
    pull_policy: str
    taken: frozenset[str]
    """Names of all pods of the object, terminating ones included: none is used again."""

    def pods(self, moves: Moves, room: Room, demand: Demand) -> Placed:
        """The new pods, each on the node that it took room on."""
        nodes = room.place(demand, moves.create)
        if len(nodes) < moves.create:
            raise ValueError(f"room for {len(nodes)} of {moves.create} replicas: count it first")
        ready = [one for one in nodes if demand.holders.holds(one.name)]
        placed = zip(self._ordinals(len(ready)), ready, strict=True)
        made = [self._pod(ordinal, moves.attempt, node, demand) for ordinal, node in placed]
        return Placed(made, [one.name for one in nodes if one not in ready])

    def trial(self, moves: Moves) -> TryPod | None:
        """The successor of the replica that makes way, as it will be."""
        if moves.swap is None:
            return None
        identity = PodIdentity(self._ordinals(1)[0], moves.swap.node, moves.attempt)
        return TryPod(self._manifest(identity))

    def seekers(self, count: int, attempt: int, wish: NodeWish, demand: Demand) -> list[CreatePod]:
        """New pods without a node, for a node autoscaler to see."""
        identities = (PodIdentity(one, "", attempt, wish) for one in self._ordinals(count))
        return [self._create(identity, demand) for identity in identities]

    def _ordinals(self, count: int) -> Sequence[int]:
        found: list[int] = []
        ordinal = 0
        while len(found) < count:
            name = names.replica(self.owner.name, self.spec.tier, self.revision, ordinal)
            if name not in self.taken:
                found.append(ordinal)
            ordinal += 1
        return found

    def _pod(self, ordinal: int, attempt: int, node: Node, demand: Demand) -> CreatePod:
        kind = gpus.told(node.labels, self.spec.resource)[0]
        return self._create(PodIdentity(ordinal, node.name, attempt, gpu=kind), demand)

    def _create(self, identity: PodIdentity, demand: Demand) -> CreatePod:
        manifest = self._manifest(identity)
        return CreatePod(manifest, identity.node, demand.resource, demand.gpus)

    def _manifest(self, identity: PodIdentity) -> dict[str, Any]:
        return engine_pod(self.owner, self.spec, self.revision, identity, self.pull_policy)


def taken_names(replicas: Iterable[Replica]) -> frozenset[str]:
    """Names that no new pod may have."""
    return frozenset(replica.name for replica in replicas)
