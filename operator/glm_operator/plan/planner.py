"""The plan: from everything observed to actions and a status, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glm_operator.api.enums import Mode
from glm_operator.manifests.labels import Owner
from glm_operator.plan.actions import Action, Plan
from glm_operator.plan.admission import courses
from glm_operator.plan.children import applies, deletions
from glm_operator.plan.claims import queued
from glm_operator.plan.copies import copies
from glm_operator.plan.events import events, scaled
from glm_operator.plan.execution import Steps
from glm_operator.plan.fetches import Fetches, fetches
from glm_operator.plan.judgement import judge
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Defaults, Observed, ScalingMemory
from glm_operator.plan.order import Claim
from glm_operator.plan.replicas import needs_verification
from glm_operator.plan.rollout import View
from glm_operator.plan.room import Room
from glm_operator.plan.scene import Scene, in_order, rank_of
from glm_operator.plan.status import status
from glm_operator.plan.stock import Stock, bare_places
from glm_operator.plan.tier import Course, TierPlan, TierPlanner

LEAVING_DRAIN_SECONDS = 300.0
"""For a tier that the object no longer has, and with it no time of its own."""
RETRY_SECONDS = 30.0
"""How long until a plan that lacks GPUs looks again, if nothing wakes it before."""


def plan(observed: Observed, now: float, defaults: Defaults) -> Plan:
    """What to do for one object now, and what to say about it.

    Pure and level-based: it depends on the state alone, not on what happened or in which order.
    """
    if observed.deleting:
        return Plan(status=observed.status, scaling=observed.scaling)
    scene = scene_of(observed, now, defaults)
    steps, room = Steps(), room_of(scene)
    tiers = _tiers(scene, steps, room)
    wanted = fetches(scene, tiers, room)
    steps.wake_at.extend(wanted.wake_at)
    places = copies(scene, wanted)
    conditions = judge(scene, tiers, places)
    return Plan(
        actions=_actions(scene, tiers, steps, wanted),
        status=status(scene, tiers, conditions, places),
        events=events(scene, tiers, conditions, steps, places),
        requeue_after_seconds=_requeue(tiers, steps, now),
        scaling=_memory(observed, tiers),
        verify=_verify(scene),
        scaled=scaled(scene, tiers),
        claims=_claims(scene, tiers),
    )


def scene_of(observed: Observed, now: float, defaults: Defaults) -> Scene:
    """What the plan of one object looks at."""
    owner = Owner(observed.object.name, observed.object.namespace, observed.uid)
    nodes = {node.name: node for node in observed.nodes}
    view = View(nodes, observed.gateways, now)
    bare = bare_places(observed.replicas, observed.revisions)
    stock = Stock(observed.weights, nodes, bare, now, assumed=observed.hypothetical)
    return Scene(observed, owner, defaults, view, Kinds(observed.nodes), stock)


def room_of(scene: Scene) -> Room:
    """What is free for the object, apart from what comes before its first tier in the order."""
    observed = scene.observed
    mine = observed.object.namespace, observed.object.name
    room = Room(scene.kinds, observed.replicas, queued(observed.claims, mine), observed.limits)
    for name, spec in in_order(scene)[:1]:
        room.let_in(rank_of(scene, name, spec))
    return room


def _tiers(scene: Scene, steps: Steps, room: Room) -> list[TierPlan]:
    observed = scene.observed
    chosen = courses(scene, room)
    planner = TierPlanner(scene, room, steps)
    planned = {
        name: planner.plan(name, spec, chosen[name], _hole(chosen, name))
        for name, spec in in_order(scene)
    }
    for tier in sorted({one.tier for one in observed.replicas} - set(chosen)):
        planner.leave(tier, LEAVING_DRAIN_SECONDS)
    return [planned[name] for name, _ in observed.object.spec.tiers.items()]


def _claims(scene: Scene, tiers: Sequence[TierPlan]) -> tuple[Claim, ...]:
    """What others leave to this object; a plan that is only looked at claims nothing."""
    if scene.mode is Mode.PLAN:
        return ()
    return tuple(claim for tier in tiers for claim in tier.claims)


def _hole(chosen: Mapping[str, Course], name: str) -> int:
    """GPUs in one piece that the other tiers need more of than this one."""
    mine = chosen[name].engine
    if mine is None:
        return 0
    others = (course.engine for other, course in chosen.items() if other != name)
    larger = (one.gpus for one in others if one is not None and one.resource == mine.resource)
    return max((gpus for gpus in larger if gpus > mine.gpus), default=0)


def _actions(
    scene: Scene, tiers: Sequence[TierPlan], steps: Steps, wanted: Fetches
) -> tuple[Action, ...]:
    """Out of routing first, then back into it, then what ends, what is needed, what begins."""
    if scene.mode is Mode.PLAN:
        return (*steps.off, *steps.on)
    return (
        *steps.off,
        *steps.on,
        *steps.delete,
        *applies(scene, tiers, wanted),
        *steps.create,
        *deletions(scene, tiers, wanted),
        *steps.swap,
    )


def _requeue(tiers: Sequence[TierPlan], steps: Steps, now: float) -> float | None:
    """Seconds until time alone may change the plan; None where only events can."""
    waits = [max(0.0, at - now) for at in steps.wake_at]
    if any(
        tier.shortage or tier.succeeds or tier.course.held or tier.growth.waiting for tier in tiers
    ):
        waits.append(RETRY_SECONDS)
    return min(waits, default=None)


def _memory(observed: Observed, tiers: Sequence[TierPlan]) -> Mapping[str, ScalingMemory]:
    """What the autoscaler remembers; a tier that it did not decide for is forgotten."""
    paused = observed.object.spec.mode is not Mode.LIVE
    kept = dict(observed.scaling) if paused else {}
    return kept | {tier.name: tier.memory for tier in tiers if tier.memory is not None}


def _verify(scene: Scene) -> tuple[str, ...]:
    nodes = scene.view.nodes
    found = [one.name for one in scene.observed.replicas if needs_verification(one, nodes)]
    return tuple(sorted(found))
