"""What is true of an object now: its conditions, each with a reason of the catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from glm_operator.api import names, reasons
from glm_operator.api.enums import Mode
from glm_operator.plan import access
from glm_operator.plan.access import GATEWAY
from glm_operator.plan.admission import PAUSED_SENTENCE
from glm_operator.plan.children import routing, waiting_edits
from glm_operator.plan.conditions import FALSE, TRUE, UNKNOWN, Condition
from glm_operator.plan.copies import Copy, CopyState
from glm_operator.plan.dra import dra_driver
from glm_operator.plan.newnodes import policy_of
from glm_operator.plan.observed import Replica
from glm_operator.plan.promises import SCALED_BY_SCALE, scaled_by, scaled_by_operator
from glm_operator.plan.replicas import is_finished, is_verified, is_waiting, node_fault
from glm_operator.plan.scaling import is_fresh
from glm_operator.plan.scene import Scene
from glm_operator.plan.tier import TierPlan

READY, PLANNED, PROGRESSING, DEGRADED = "Ready", "Planned", "Progressing", "Degraded"
TOOL_CALL = "ToolCallVerified"
AVAILABLE = {
    names.FLAGSHIP: "FlagshipAvailable",
    names.FLASH: "FlashAvailable",
    names.TEXT: "TextAvailable",
}

PLAN_SENTENCE = "mode is Plan: nothing is created, and what runs is left as it is."
CRASHING = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError")
IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a replica does not serve."""

    reason: str
    message: str


def judge(scene: Scene, tiers: Sequence[TierPlan], places: Sequence[Copy] = ()) -> list[Condition]:
    """All conditions, the summary first."""
    planned = _planned(scene, tiers)
    available = [_available(scene, name, tiers, places) for name in names.TIERS]
    gateway = access.locked(scene) or _gateway(scene)
    return [
        _ready(scene, tiers, planned, available, gateway),
        planned,
        *available,
        _tool_call(tiers),
        gateway,
        _progressing(scene, tiers, planned),
        _degraded(scene, tiers, places),
        access.unauthenticated(scene),
    ]


def _planned(scene: Scene, tiers: Sequence[TierPlan]) -> Condition:
    for tier in tiers:
        if tier.course.reason == reasons.DOES_NOT_FIT:
            found = misfit(tier, scene)
            return Condition(PLANNED, FALSE, found.reason, found.message)
    held = [f"{tier.name} {tier.course.held}" for tier in tiers if tier.course.held]
    held += [f"{part} {PAUSED_SENTENCE}" for part in _waiting(scene, tiers)]
    if held:
        reason = reasons.TIER_PAUSED if scene.mode is Mode.PAUSED else _why_held(tiers)
        return Condition(PLANNED, FALSE, reason, f"{'; '.join(held)}.{_relief(tiers)}")
    short = [(tier.name, cause) for tier in tiers if (cause := _lack(tier, scene))]
    if short:
        message = "; ".join(f"{name} {cause.message}" for name, cause in short)
        reason = _graver(one.reason for _, one in short)
        return Condition(PLANNED, FALSE, reason, f"{message}.{_relief(tiers)}")
    return Condition(PLANNED, TRUE, reasons.FITS, f"{'; '.join(_sizes(tiers))}.")


def _lack(tier: TierPlan, scene: Scene) -> Cause | None:
    """What missing replicas wait for, after the name of the tier and without a full stop."""
    asked = tier.growth.sentence(planned=scene.mode is Mode.PLAN)
    if not asked and not tier.shortage:
        return None
    grows = tier.growth.reason or reasons.WAITING_FOR_GPUS
    reason = grows if tier.growth.waiting else _graver((tier.reason, grows))
    return Cause(reason, "; ".join(part for part in (tier.shortage, asked) if part))


def _relief(tiers: Sequence[TierPlan]) -> str:
    """The smallest change that would give the first tier that waits room, as a sentence."""
    tier = next((one for one in tiers if one.help), None)
    return f" {tier.name.capitalize()} would find room with {tier.help[0]}." if tier else ""


def _why_held(tiers: Sequence[TierPlan]) -> str:
    """The reason that keeps the object from beginning: GPUs only where nothing else does."""
    return _graver(tier.course.reason for tier in tiers if tier.course.held)


def _graver(found: Iterable[str]) -> str:
    """The first reason that no free GPU would end."""
    others = (reason for reason in found if reason != reasons.WAITING_FOR_GPUS)
    return next(others, reasons.WAITING_FOR_GPUS)


def _waiting(scene: Scene, tiers: Sequence[TierPlan]) -> list[str]:
    """Parts of the object whose edits wait because it is paused, tiers' revisions apart."""
    if scene.mode is not Mode.PAUSED:
        return []
    fixed = (one for one in tiers if one.course.engine and not scaled_by_operator(one.spec))
    resized = [f"{one.name}.replicas" for one in fixed if one.desired != one.spec.replicas]
    return [*resized, *waiting_edits(scene, tiers)]


def _sizes(tiers: Sequence[TierPlan]) -> Iterator[str]:
    for tier in tiers:
        engine = tier.course.resolution.engine
        if engine is not None:
            gpus = "1 GPU" if engine.gpus == 1 else f"{engine.gpus} GPUs"
            yield f"{tier.name}: {gpus} per replica, {engine.max_model_len} tokens of context"


def misfit(tier: TierPlan, scene: Scene) -> Cause:
    """Why nothing fits, in one sentence: the size that came nearest stands for all."""
    rejected = tier.course.resolution.fit.rejected
    if not rejected:
        return _not_offered(tier, scene)
    nearest = rejected[0]
    others = f" ({len(rejected) - 1} more in status.plan)" if len(rejected) > 1 else ""
    would = f" It would fit with {tier.help[0]}." if tier.help else ""
    sentence = f"{tier.name}: {nearest.option}: {nearest.message}{others}.{would}"
    return Cause(reasons.DOES_NOT_FIT, sentence)


def _not_offered(tier: TierPlan, scene: Scene) -> Cause:
    resource = tier.spec.placement.accelerator_resource
    lacks = f"{tier.name}: no node of this cluster offers {resource}"
    if policy_of(tier.spec) is not None:
        message = f"{lacks}; say by placement.nodeAutoscaler.nodeShape what kind of node comes."
        return Cause(reasons.DOES_NOT_FIT, message)
    driver = dra_driver(resource)
    if driver not in scene.observed.drivers:
        would = f" It would fit with {tier.help[0]}." if tier.help else ""
        return Cause(reasons.DOES_NOT_FIT, f"{lacks}.{would}")
    return Cause(
        reasons.ONLY_DRA,
        f"{lacks}, and {driver} offers such GPUs by dynamic resource allocation only, which the"
        " planner does not count: run the vendor's device plugin on the GPU nodes.",
    )


def _available(
    scene: Scene, name: str, tiers: Sequence[TierPlan], places: Sequence[Copy]
) -> Condition:
    kind = AVAILABLE[name]
    tier = next((one for one in tiers if one.name == name), None)
    if tier is None:
        return Condition(kind, FALSE, reasons.NOT_WANTED, f"The object has no tier {name}.")
    if tier.serving:
        message = f"{len(tier.serving)} of {tier.desired} replicas serve."
        more = f" The load asks for more: one {tier.limited}." if tier.limited else ""
        return Condition(kind, TRUE, reasons.AVAILABLE, message + more)
    if scene.mode is Mode.PLAN:
        return Condition(kind, FALSE, reasons.PLAN_ONLY, PLAN_SENTENCE)
    if tier.course.engine is not None and tier.desired == 0:
        return _sleeping(kind, tier)
    cause = (None if tier.fleet.usable else _fetching(tier, places)) or _why_not(scene, tier)
    return Condition(kind, FALSE, cause.reason, cause.message)


def _fetching(tier: TierPlan, places: Sequence[Copy]) -> Cause | None:
    """What replicas that have room wait for, if it is their weights."""
    mine = [one for one in places if one.tier == tier.name and one.state is not CopyState.READY]
    wanted = [one for one in mine if not tier.prepare or one.place in tier.prepare] or mine
    if not tier.prepare or not wanted:
        return None
    worst = min(wanted, key=lambda one: (not one.reason, one.place))
    others = f"; {len(wanted) - 1} more in status" if len(wanted) > 1 else ""
    return Cause(worst.reason or reasons.FETCHING_WEIGHTS, f"{worst.sentence()}{others}.")


def _sleeping(kind: str, tier: TierPlan) -> Condition:
    if tier.limited:
        message = f"Requests are held, and a replica {tier.limited}."
        return Condition(kind, FALSE, tier.reason, message)
    if scaled_by_operator(tier.spec):
        leaving = "The last replica is leaving; the next request keeps or wakes one."
        message = leaving if tier.fleet.all else "No replica runs; the next request wakes one."
        return Condition(kind, TRUE, reasons.SCALED_TO_ZERO, message)
    changed_by = "your autoscaler" if scaled_by(tier.spec) == SCALED_BY_SCALE else "an edit"
    message = f"{tier.name}: replicas is 0, and nothing but {changed_by} changes that."
    return Condition(kind, FALSE, reasons.UNAVAILABLE, message)


def _why_not(scene: Scene, tier: TierPlan) -> Cause:
    """The one reason that explains best why a tier has no replica that serves."""
    causes = [cause for one in tier.fleet.all if (cause := trouble(one, scene))]
    if causes:
        return causes[0]
    if tier.course.reason == reasons.DOES_NOT_FIT:
        return misfit(tier, scene)
    if tier.course.held:
        return Cause(tier.course.reason, f"{tier.name} {tier.course.held}.")
    lack = _lack(tier, scene)
    if lack is not None:
        return Cause(lack.reason, f"{tier.name} {lack.message}.")
    if tier.succeeds:
        return Cause(reasons.STARTING, f"{tier.name} waits for its own replica to leave.")
    if tier.fleet.usable or tier.moves.create:
        return Cause(reasons.STARTING, "No replica is ready yet.")
    return Cause(reasons.UNAVAILABLE, "No replica exists.")


def trouble(replica: Replica, scene: Scene) -> Cause | None:
    """What is wrong with a replica; None while it may still come up by itself."""
    if replica.terminating or (is_waiting(replica) and not replica.gates):
        return None
    fault = node_fault(replica, scene.view.nodes)
    if fault:
        return Cause(reasons.NODE_LOST, f"{replica.name}: node {replica.node} {fault}.")
    if is_finished(replica):
        return Cause(reasons.ENGINE_FAILED, f"{replica.name} ended: {replica.failure}.")
    if replica.waiting_reason in IMAGE_TROUBLE:
        text = replica.waiting_message or replica.waiting_reason
        return Cause(reasons.IMAGE_PULL_FAILED, f"{replica.name}: {text}")
    if replica.unschedulable or replica.gates:
        return _unplaced(replica)
    if replica.verified is False and not is_verified(replica):
        return _unverified(replica)
    # Between two crashes the container runs again, and is no better for it.
    crashed = replica.restarts > 0 and replica.failure and not replica.containers_ready
    if crashed or replica.waiting_reason in CRASHING:
        text = replica.failure or replica.waiting_message
        return Cause(reasons.ENGINE_FAILED, f"{replica.name}: {text}")
    return None


def _unplaced(replica: Replica) -> Cause:
    if not replica.gates:
        return Cause(reasons.UNSCHEDULABLE, f"{replica.name}: {replica.unschedulable}")
    waits = "the scheduler leaves it alone until these gates are lifted"
    message = f"{replica.name}: {waits}: {', '.join(replica.gates)}."
    return Cause(reasons.SCHEDULING_GATED, message)


def _unverified(replica: Replica) -> Cause:
    known = reasons.CATALOGUE.get(replica.verify_reason)
    reason = known.name if known is not None else reasons.NOT_CHECKED
    return Cause(reason, f"{replica.name}: {replica.verify_message}")


def _tool_call(tiers: Sequence[TierPlan]) -> Condition:
    alive = [one for tier in tiers for one in tier.fleet.usable]
    failed = [one for one in alive if one.verified is False and not is_verified(one)]
    if failed:
        cause = _unverified(failed[0])
        return Condition(TOOL_CALL, FALSE, cause.reason, cause.message)
    if any(is_verified(one) for one in alive):
        message = "Every checked engine returned the tool calls it was asked for."
        return Condition(TOOL_CALL, TRUE, reasons.VERIFIED, message)
    message = "No engine has come far enough to be checked."
    return Condition(TOOL_CALL, UNKNOWN, reasons.NOT_CHECKED, message)


def _gateway(scene: Scene) -> Condition:
    name = names.child(scene.owner.name, "gateway")
    live = scene.observed.children.get(("Deployment", name), {})
    ready = int((live.get("status") or {}).get("readyReplicas") or 0)
    wanted = scene.observed.object.spec.gateway.replicas
    if ready >= wanted:
        message = "Every gateway pod is ready."
        return Condition(GATEWAY, TRUE, reasons.GATEWAY_READY, message)
    if ready:
        message = f"{ready} of {wanted} gateway pods are ready."
        return Condition(GATEWAY, TRUE, reasons.GATEWAY_DEGRADED, message)
    if scene.mode is Mode.PLAN:
        return Condition(GATEWAY, FALSE, reasons.PLAN_ONLY, PLAN_SENTENCE)
    return Condition(GATEWAY, FALSE, reasons.GATEWAY_STARTING, "No gateway pod is ready yet.")


def _progressing(scene: Scene, tiers: Sequence[TierPlan], planned: Condition) -> Condition:
    if scene.mode is Mode.PLAN:
        return Condition(PROGRESSING, FALSE, reasons.PLAN_ONLY, PLAN_SENTENCE)
    if scene.mode is Mode.PAUSED:
        message = "mode is Paused: what runs is kept."
        return Condition(PROGRESSING, FALSE, reasons.TIER_PAUSED, message)
    for tier in tiers:
        reason, message = _movement(tier)
        if reason:
            return Condition(PROGRESSING, TRUE, reason, f"{tier.name} {message}")
    if planned.status == FALSE:
        return Condition(PROGRESSING, FALSE, planned.reason, planned.message)
    message = "What runs is what the object asks for."
    return Condition(PROGRESSING, FALSE, reasons.UP_TO_DATE, message)


def _movement(tier: TierPlan) -> tuple[str, str]:
    if any(one.revision != tier.course.revision for one in tier.fleet.usable):
        return reasons.ROLLING_OUT, f"is brought to revision {tier.course.revision}."
    if tier.moves.remove:
        return reasons.SCALING, "gives up replicas, which finish their requests first."
    if tier.succeeds:
        return reasons.STARTING, "waits for its own replica to leave."
    if tier.growth.waiting:
        return reasons.WAITING_FOR_NODES, f"{tier.growth.sentence()}."
    if tier.prepare:
        return reasons.FETCHING_WEIGHTS, f"gets its weights on {', '.join(tier.prepare)}."
    if tier.moves.create or len(tier.serving) < len(tier.moves.keep):
        return reasons.STARTING, "has replicas that are starting."
    return "", ""


def _degraded(scene: Scene, tiers: Sequence[TierPlan], places: Sequence[Copy]) -> Condition:
    for tier in tiers:
        for replica in tier.fleet.all:
            cause = trouble(replica, scene)
            if cause:
                return Condition(DEGRADED, TRUE, cause.reason, cause.message)
    for tier in tiers:
        lack = _lack(tier, scene)
        # A node takes minutes; only one that did not come is trouble.
        if lack is not None and tier.growth.record.failures:
            message = f"{tier.name} {lack.message}."
            return Condition(DEGRADED, TRUE, reasons.NODES_DID_NOT_COME, message)
        if tier.shortage:
            message = f"{tier.name} {tier.shortage}."
            return Condition(DEGRADED, TRUE, reasons.REPLICAS_MISSING, message)
    spoilt = next((one for one in places if one.reason), None)
    if spoilt is not None:
        return Condition(DEGRADED, TRUE, spoilt.reason, f"{spoilt.sentence()}.")
    runs = any(tier.fleet.all for tier in tiers)
    message = "Everything that should run runs." if runs else "Nothing runs that could be degraded."
    return Condition(DEGRADED, FALSE, reasons.HEALTHY, message)


def _ready(
    scene: Scene,
    tiers: Sequence[TierPlan],
    planned: Condition,
    available: Sequence[Condition],
    gateway: Condition,
) -> Condition:
    """True only when a request for any tier is answered as this generation asks."""
    if scene.mode is Mode.PLAN:
        return Condition(READY, FALSE, reasons.PLAN_ONLY, PLAN_SENTENCE)
    wanted = {AVAILABLE[tier.name] for tier in tiers}
    blocks = [one for one in available if one.type in wanted and one.status != TRUE]
    if any(tier.course.held for tier in tiers) or _waiting(scene, tiers):
        blocks.insert(0, planned)
    blocks.extend([gateway] if gateway.status != TRUE else [])
    if blocks:
        return Condition(READY, FALSE, blocks[0].reason, blocks[0].message)
    behind = next((tier for tier in tiers if _is_behind(tier)), None)
    if behind is not None:
        message = f"{behind.name} still serves an older revision only."
        return Condition(READY, FALSE, reasons.ROLLING_OUT, message)
    outdated = _outdated_gateway(scene, tiers)
    if outdated:
        return Condition(READY, FALSE, reasons.ROLLING_OUT, outdated)
    return Condition(READY, TRUE, reasons.SERVING, "The gateway answers requests for every tier.")


def _outdated_gateway(scene: Scene, tiers: Sequence[TierPlan]) -> str:
    """Which gateway does not route as this generation asks, as a sentence; empty: none."""
    if scene.mode is Mode.PAUSED:
        return ""
    wanted = routing(scene, tiers).generation
    fresh = [report for report in scene.view.reports if is_fresh(report)]
    older = [report for report in fresh if report.generation < wanted]
    if older:
        return f"{older[0].pod} still routes by generation {older[0].generation} of the object."
    if fresh or _was_ready(scene, wanted):
        return ""
    return "No gateway has told the operator yet by which generation it routes."


def _was_ready(scene: Scene, generation: int) -> bool:
    """Whether the object was found ready since its routing last changed."""
    stored = scene.observed.status.get("conditions") or ()
    ready = (one for one in stored if one.get("type") == READY and one.get("status") == TRUE)
    return any(int(one.get("observedGeneration", 0)) >= generation for one in ready)


def _is_behind(tier: TierPlan) -> bool:
    current = [one for one in tier.serving if one.revision == tier.course.revision]
    return tier.desired > 0 and not current
