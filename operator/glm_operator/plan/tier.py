"""One tier planned: what it runs, how many, and what becomes of its replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glm_operator.api import names, reasons
from glm_operator.api.enums import Mode
from glm_operator.api.tier import AnyTier, FlashTier
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.weights_task import WeightsTask
from glm_operator.plan import scaling
from glm_operator.plan.advice import fewer_flash, helps, relief
from glm_operator.plan.claims import Stand, demand_of, successors
from glm_operator.plan.demand import Demand
from glm_operator.plan.execution import Factory, Placed, Steps, carry_out, label_only, taken_names
from glm_operator.plan.growth import NO_GROWTH, Grower, Growth
from glm_operator.plan.newnodes import candidates
from glm_operator.plan.observed import Replica, ScalingMemory
from glm_operator.plan.order import Claim
from glm_operator.plan.promises import follows_load, owed, promised, scaled_by_operator
from glm_operator.plan.replicas import Fleet, fleet, is_finished, is_serving, node_fault
from glm_operator.plan.resolve import Inputs, Resolution
from glm_operator.plan.rollout import Moves, Target, step
from glm_operator.plan.room import Room
from glm_operator.plan.scene import Scene, rank_of
from glm_operator.plan.shortage import shortage

GPUS_HELP = (reasons.DOES_NOT_FIT, reasons.WAITING_FOR_GPUS)
"""Reasons of tiers that other sizes or more GPUs would help."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a tier runs, decided before anything is placed."""

    resolution: Resolution
    engine: EngineSpec | None = None
    """What replicas are made of now; None: nothing may be made."""
    revision: str = ""
    """The revision that replicas are brought to; empty where there is none."""
    held: str = ""
    """Why this is not what the present inputs ask for, as a sentence."""
    reason: str = reasons.WAITING_FOR_GPUS
    """Of the catalogue, for `held`."""
    claims: tuple[Claim, ...] = ()
    """What the present inputs wait for."""
    read: WeightsTask | None = None
    """The Job that reads the checkpoint of the present inputs; None: that is known."""
    retry_at: float | None = None
    """When a Job that could not read it is tried again."""
    facts: Mapping[str, Any] | None = None
    """What the checkpoint of the present inputs is; None: unknown, or the preset is believed."""


@dataclass(frozen=True, slots=True)
class TierPlan:
    """A tier as planned: the input of status and of the gateway's configuration."""

    name: str
    spec: AnyTier
    course: Course
    fleet: Fleet
    moves: Moves
    desired: int
    serving: tuple[Replica, ...]
    """Replicas that the gateway may route to."""
    nodes: tuple[str, ...] = ()
    """Nodes of the replicas, those to be made included."""
    shortage: str = ""
    """What the missing replicas lack, as a sentence; empty: nothing."""
    succeeds: bool = False
    """Missing replicas only wait for the places of their own predecessors."""
    reason: str = reasons.WAITING_FOR_GPUS
    """Of the catalogue, for `shortage` and `limited`."""
    limited: str = ""
    """What more replicas would lack that the load asks for; empty: nothing."""
    growth: Growth = NO_GROWTH
    """What a node autoscaler is asked for."""
    help: tuple[str, ...] = ()
    """What would help where it does not fit or finds no room, the smallest change first."""
    prepare: tuple[str, ...] = ()
    """Nodes where replicas have room, and the weights are not there yet."""
    decision: scaling.Decision | None = None
    claims: tuple[Claim, ...] = ()
    """Replicas that are wanted now and do not exist."""

    @property
    def memory(self) -> ScalingMemory | None:
        """What the autoscaler is to remember; None where it did not decide."""
        return self.decision.memory if self.decision else None


class TierPlanner:
    """Plans tiers one after the other; each takes its room and adds its actions."""

    def __init__(self, scene: Scene, room: Room, steps: Steps) -> None:
        self._scene = scene
        self._room = room
        self._steps = steps

    def plan(self, name: str, spec: AnyTier, course: Course, hole: int) -> TierPlan:
        """Plan one tier. `hole`: GPUs in one piece that a larger tier needs."""
        found = fleet(self._scene.replicas(name), self._scene.view.nodes, self._scene.view.now)
        serving = tuple(one for one in found.usable if is_serving(one, self._scene.view.nodes))
        base = TierPlan(
            name, spec, course, found, Moves(), len(found.usable), serving, claims=course.claims
        )
        if course.engine is None:
            label_only(found.all, self._scene.view, self._steps)
            return replace(base, nodes=_nodes(found.usable, Placed([], [])), help=self._help(base))
        return self._plan(base, course.engine, hole)

    def _plan(self, base: TierPlan, engine: EngineSpec, hole: int) -> TierPlan:
        stand = self._stand(base, engine, hole)
        demand = stand.demand
        self._reserve_unpinned(base.fleet, demand)
        grower = self._grower(base, engine)
        found = grower.settle(base.fleet, self._room, demand)
        base = replace(base, fleet=found)
        decision = self._scale(base, demand, grower.reach(found, self._room, demand))
        desired = decision.desired if decision else self._wanted(base)
        moves = self._moves(found, Target(base.course.revision, desired, demand))
        placed = self._act(base, engine, moves, demand)
        prepare = (*placed.prepare, *([moves.prepare] if moves.prepare else []))
        # What is still missing waits for everybody who comes before the last of them.
        self._room.let_in(stand.last)
        succeeds = moves.short > 0 and self._succeeds(found, base.course.revision, desired, demand)
        growth = grower.grow(found, moves, 0 if succeeds else self._askable(moves, demand))
        self._seek(base, grower, moves, growth, demand)
        # A tier that waits for new nodes keeps nothing of those that are there.
        moves = replace(moves, short=0) if growth.waiting else moves
        lacks = "" if succeeds else self._shortage(moves, stand)
        limited = decision is not None and decision.reason is scaling.ScaleReason.CAPACITY
        denied = None if succeeds else self._room.lack(demand)
        # What the namespace does not admit is kept from nobody.
        admitted = moves.short if succeeds else self._room.admitted(demand, moves.short)
        wants = replace(moves, short=admitted)
        grows = limited and denied is None and not growth.waiting
        stand = replace(stand, coming=frozenset(placed.prepare))
        claims = stand.claims(engine, wants, desired, succeeds=succeeds, limited=grows)
        self._keep_room(stand, wants)
        return replace(
            base,
            moves=moves,
            desired=desired,
            nodes=_nodes(moves.keep, placed),
            prepare=tuple(dict.fromkeys(prepare)),
            shortage=lacks,
            growth=growth,
            help=self._relief(base, demand, self._room) if lacks and denied is None else (),
            succeeds=succeeds,
            reason=reasons.WAITING_FOR_GPUS if denied is None else denied.reason,
            limited=shortage(self._room, demand, stand.last) if limited else "",
            decision=decision,
            claims=(*base.claims, *claims),
        )

    def _stand(self, base: TierPlan, engine: EngineSpec, hole: int) -> Stand:
        """Wait for everybody who comes first, and find what was kept for this tier."""
        rank = rank_of(self._scene, base.name, base.spec)
        self._room.let_in(rank)
        self._room.give_up(rank)
        found, revision = base.fleet, base.course.revision
        prior = successors(self._scene.observed.claims, rank)
        current = sum(one.revision == revision for one in found.usable)
        demand = replace(
            demand_of(engine, hole),
            holders=self._scene.stock.holders(engine),
            homes=_homes(found, revision).union(*(one.homes for one in prior)),
            owed=max(0, owed(base.spec) - current),
            later=replace(rank, on_load=True) if follows_load(base.spec) else None,
        )
        leaving = frozenset(one.node for one in _making_way(found, revision) if one.node)
        return Stand(rank, demand, owed(base.spec), sum(one.count for one in prior), leaving)

    def _help(self, base: TierPlan) -> tuple[str, ...]:
        """What would help a tier of which nothing may be made."""
        if base.course.resolution.refusal is not None:
            return ()
        inputs, wanted = self._inputs(base), base.course.resolution.engine
        if wanted is None and base.course.reason not in GPUS_HELP:
            return ()
        if wanted is None:
            nodes = candidates(base.spec, self._scene.kinds)
            return helps(inputs.ask, inputs.constraints, nodes)
        if not base.course.held or base.course.reason != reasons.WAITING_FOR_GPUS:
            return ()
        demand, owed = demand_of(wanted), max(1, promised(base.spec))
        rest = self._room.copy()
        missing = owed - len(rest.place(demand, owed))
        return self._relief(base, demand, rest, missing, owed) if missing else ()

    def _relief(
        self, base: TierPlan, demand: Demand, rest: Room, missing: int = 1, wanted: int = 1
    ) -> tuple[str, ...]:
        """What would give replicas room that wait for GPUs.

        Args:
            rest: the room beside those that have some.
            missing: how many have none.
            wanted: how many need room once all are made of something else.
        """
        flash = self._scene.replicas(names.FLASH) if base.name != names.FLASH else ()
        alive = [one for one in flash if not one.terminating and one.bound]
        fewer = fewer_flash(rest, demand, alive) if missing == 1 else ()
        if base.course.resolution.refusal is not None:
            return fewer
        inputs = self._inputs(base)
        changes = relief(inputs.ask, inputs.constraints, self._scene.kinds, self._room, wanted)
        return (*fewer, *changes)

    def _inputs(self, base: TierPlan) -> Inputs:
        return Inputs(base.name, base.spec, (), self._scene.defaults, base.course.facts)

    def leave(self, tier: str, drain_seconds: float) -> None:
        """Take away every replica of a tier that the object no longer has."""
        found = fleet(self._scene.replicas(tier), self._scene.view.nodes, self._scene.view.now)
        if self._scene.mode is not Mode.LIVE:
            label_only(found.all, self._scene.view, self._steps)
            return
        moves = Moves(
            remove=found.usable, discard=(*found.failed, *found.lost, *found.stuck, *found.waiting)
        )
        carry_out(found, moves, self._scene.view, drain_seconds, self._steps)

    def _reserve_unpinned(self, found: Fleet, demand: Demand) -> None:
        """A replica that the scheduler has not placed yet will take GPUs of some node."""
        for replica in found.usable:
            if not replica.node and not self._room.counts(replica):
                self._room.take(replace(demand, resources=None))

    def _wanted(self, base: TierPlan) -> int:
        """Replicas wanted where no law decides: as before while paused, else as written."""
        before = self._scene.stored(base.name).get("desiredReplicas")
        if self._scene.mode is Mode.PAUSED:
            return len(base.fleet.usable) if before is None else int(before)
        if not scaled_by_operator(base.spec):
            return base.spec.replicas
        return max(1, promised(base.spec)) if before is None else int(before)

    def _scale(self, base: TierPlan, demand: Demand, reach: int) -> scaling.Decision | None:
        if self._scene.mode is not Mode.LIVE or not isinstance(base.spec, FlashTier):
            return None
        if not scaled_by_operator(base.spec):
            return None
        observed = self._scene.observed
        memory = observed.scaling.get(base.name, ScalingMemory())
        limits = base.spec.scaling
        policy = scaling.Policy(
            limits.min_replicas, limits.max_replicas, limits.scale_to_zero.idle_seconds
        )
        usable = base.fleet.usable
        signals = scaling.Signals(
            current=self._wanted(base) if memory.desired is None else memory.desired,
            capacity=len(usable) + self._room.count(demand, limits.max_replicas) + reach,
            reports=observed.gateways,
            gateways=observed.object.spec.gateway.replicas,
            serving=len(base.serving),
            tier=base.name,
            placed=bool(usable),
            rolling=any(one.revision != base.course.revision for one in usable),
        )
        return scaling.decide(signals, policy, memory, self._scene.view.now)

    def _moves(self, found: Fleet, target: Target) -> Moves:
        if self._scene.mode is not Mode.PAUSED:
            return step(found, target, self._scene.view, self._room)
        # Paused, every revision is as good as another, and nothing that runs is taken away.
        moves = step(found.of_revision(target.revision), target, self._scene.view, self._room)
        by_uid = {one.uid: one for one in found.all}
        keep = tuple(by_uid[one.uid] for one in (*moves.keep, *moves.remove))
        discard = tuple(by_uid[one.uid] for one in moves.discard)
        return replace(moves, keep=keep, remove=(), swap=None, discard=discard)

    def _act(self, base: TierPlan, engine: EngineSpec, moves: Moves, demand: Demand) -> Placed:
        scene = self._scene
        factory = self._factory(base, engine)
        placed = factory.pods(moves, self._room, demand)
        if scene.mode is Mode.PLAN:
            label_only(base.fleet.all, scene.view, self._steps)
            return placed
        drain_seconds = base.spec.drain.timeout_seconds
        trial = factory.trial(moves)
        carry_out(base.fleet, moves, scene.view, drain_seconds, self._steps, trial)
        self._steps.create.extend(placed.pods)
        return placed

    def _factory(self, base: TierPlan, engine: EngineSpec) -> Factory:
        scene = self._scene
        taken = taken_names(scene.observed.replicas)
        policy = scene.defaults.image_pull_policy
        return Factory(scene.owner, engine, base.course.revision, policy, taken)

    def _grower(self, base: TierPlan, engine: EngineSpec) -> Grower:
        now, scene = self._scene.view.now, self._scene
        return Grower(base.spec, engine, base.course.revision, scene.observed, scene.kinds, now)

    def _askable(self, moves: Moves, demand: Demand) -> int:
        """How many replicas may ask for a node.

        None where a node has the GPUs, though they are kept for others: the scheduler would give
        them to whatever waits without a node.
        """
        if not moves.short or self._room.has_free(demand):
            return 0
        return self._room.admitted(demand, moves.short)

    def _seek(
        self, base: TierPlan, grower: Grower, moves: Moves, growth: Growth, demand: Demand
    ) -> None:
        """Carry out what a node autoscaler is asked for."""
        if self._scene.mode is Mode.PLAN or base.course.engine is None:
            return
        self._steps.delete.extend(growth.deletions)
        self._steps.wake_at.extend(growth.wake_at)
        if growth.ask:
            self._room.admit(demand, growth.ask)
            factory = self._factory(base, base.course.engine)
            made = factory.seekers(growth.ask, moves.attempt, grower.wish(), demand)
            self._steps.create.extend(made)

    def _succeeds(self, found: Fleet, revision: str, desired: int, demand: Demand) -> bool:
        """Whether all that is missing has room once the tier's own leaving replicas are gone."""
        nodes, trial = self._scene.view.nodes, self._room.copy()
        for one in _making_way(found, revision):
            if one.node and not node_fault(one, nodes):
                trial.let_go(one)
        missing = desired - sum(one.revision == revision for one in found.usable)
        return trial.count(demand, missing) == missing

    def _shortage(self, moves: Moves, stand: Stand) -> str:
        """Say what the missing replicas lack."""
        if not moves.short:
            return ""
        many = f"lacks {moves.short} replicas: one " if moves.short > 1 else ""
        return many + shortage(self._room, stand.demand, stand.last)

    def _keep_room(self, stand: Stand, moves: Moves) -> None:
        """Keep the nearest nodes for the missing replicas."""
        self._room.keep(stand.demand, stand.rank, moves.short)


def _making_way(found: Fleet, revision: str) -> tuple[Replica, ...]:
    """Replicas whose GPUs the tier's own successors will have."""
    leaving = (*found.terminating, *(one for one in found.usable if one.revision != revision))
    return tuple(one for one in leaving if not is_finished(one))


def _homes(found: Fleet, revision: str) -> frozenset[str]:
    """Nodes of replicas that somebody else deleted: what comes in their place belongs there."""
    gone = (one for one in found.terminating if one.draining_since is None)
    return frozenset(one.node for one in gone if one.node and one.revision == revision)


def _nodes(replicas: tuple[Replica, ...], placed: Placed) -> tuple[str, ...]:
    """Nodes by name, each once."""
    present = [one.node for one in replicas if one.node]
    return tuple(sorted({*present, *(one.node for one in placed.pods), *placed.prepare}))
