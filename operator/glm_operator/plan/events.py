"""Events of one plan: what it does, and what became different."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glm_operator.api import reasons
from glm_operator.api.enums import Mode
from glm_operator.plan.actions import Event
from glm_operator.plan.conditions import FALSE, TRUE, Condition
from glm_operator.plan.copies import Copy, CopyState, stored_copies
from glm_operator.plan.execution import Steps
from glm_operator.plan.scene import Scene
from glm_operator.plan.tier import TierPlan

NORMAL, WARNING = "Normal", "Warning"
ALARMING = ("Planned", "Degraded", "ToolCallVerified")
"""Conditions whose trouble deserves an event of its own."""
_PATIENT = (reasons.WAITING_FOR_NODES, reasons.READING_CHECKPOINT)
"""To wait for what was just asked for is no trouble yet."""


def events(
    scene: Scene,
    tiers: Sequence[TierPlan],
    conditions: Sequence[Condition],
    steps: Steps,
    places: Sequence[Copy],
) -> tuple[Event, ...]:
    """Everything a user wants to read in `kubectl describe`, at most once per change."""
    if scene.mode is Mode.PLAN:
        return tuple(_troubles(scene, conditions))
    return (
        *_pods(steps),
        *_weights(scene, places),
        *_scaling(scene, tiers),
        *_rollouts(scene, tiers),
        *_troubles(scene, conditions),
    )


def _pods(steps: Steps) -> Iterator[Event]:
    for create in steps.create:
        name = create.manifest["metadata"]["name"]
        place = f"on {create.node}" if create.node else "without a node, for a node autoscaler"
        yield Event(NORMAL, reasons.REPLICA_CREATED, f"{name} {place}.")
    for delete in steps.delete:
        yield Event(NORMAL, reasons.REPLICA_REMOVED, f"{delete.name}: {delete.why}.")


def _weights(scene: Scene, places: Sequence[Copy]) -> Iterator[Event]:
    """Weights that begin to move, and those that arrived, or could not, since the last status."""
    before = {(one["tier"], one["place"]): one["state"] for one in stored_copies(scene)}
    for one in places:
        was = before.get((one.tier, one.place))
        if was == one.state:
            continue
        match one.state:
            case CopyState.WAITING if was != CopyState.FETCHING:
                yield Event(NORMAL, reasons.WEIGHTS_FETCH_STARTED, f"{one.sentence()}.")
            case CopyState.READY:
                yield Event(NORMAL, reasons.WEIGHTS_FETCHED, f"{one.sentence()}.")
            case CopyState.FAILED:
                yield Event(WARNING, one.reason, f"{one.sentence()}.")
            case _:
                pass


def scaled(scene: Scene, tiers: Sequence[TierPlan]) -> dict[str, str]:
    """Tier -> why the operator changes its wanted number of replicas."""
    return {
        tier.name: tier.decision.memory.reason
        for tier in tiers
        if tier.decision is not None and _before(scene, tier) not in (None, tier.desired)
    }


def _before(scene: Scene, tier: TierPlan) -> int | None:
    """The number wanted so far; None for a tier that is new."""
    stored = scene.stored(tier.name).get("desiredReplicas")
    return None if stored is None else int(stored)


def _scaling(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[Event]:
    changes = scaled(scene, tiers)
    for tier in tiers:
        before = _before(scene, tier)
        if tier.name in changes and before is not None:
            reason = reasons.SCALED_UP if tier.desired > before else reasons.SCALED_DOWN
            message = f"{tier.name} from {before} to {tier.desired}: {changes[tier.name]}."
            yield Event(NORMAL, reason, message)


def _rollouts(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[Event]:
    for tier in tiers:
        before = scene.stored(tier.name).get("revision")
        if before and tier.course.revision and before != tier.course.revision:
            message = f"{tier.name} is brought from revision {before} to {tier.course.revision}."
            yield Event(NORMAL, reasons.RESTARTS_TIER, message)


def _troubles(scene: Scene, conditions: Sequence[Condition]) -> Iterator[Event]:
    """New troubles, each sentence once: two conditions may say the same."""
    stored = {one.get("type"): one for one in scene.observed.status.get("conditions") or []}
    told: set[str] = set()
    for one in conditions:
        bad = one.status == (TRUE if one.type == "Degraded" else FALSE)
        before = stored.get(one.type, {})
        known = before.get("reason") == one.reason and before.get("status") == one.status
        if one.type in ALARMING and bad and not known and one.message not in told:
            told.add(one.message)
            kind = NORMAL if one.reason in _PATIENT else WARNING
            yield Event(kind, one.reason, one.message)
