"""What each tier runs: its present inputs if they fit, else what it ran before.

An object that does not fit takes no GPU: what is new begins together or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from glm_operator.api import reasons
from glm_operator.api.enums import Mode
from glm_operator.api.tier import AnyTier
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.claims import demand_of
from glm_operator.plan.newnodes import can_come, candidates
from glm_operator.plan.observed import Replica, Revision
from glm_operator.plan.order import Claim
from glm_operator.plan.promises import promised
from glm_operator.plan.reading import Reading, read, refusal
from glm_operator.plan.replicas import is_finished
from glm_operator.plan.resolve import Inputs, Records, Resolution, read_record, resolve
from glm_operator.plan.room import Room
from glm_operator.plan.scene import Scene, in_order, rank_of
from glm_operator.plan.shortage import shortage
from glm_operator.plan.tier import Course

PAUSED_SENTENCE = "has an edit that waits until mode is Live again"
KNOWN = Reading()
TOGETHER_SENTENCE = "waits, because the object begins as a whole"


@dataclass(frozen=True, slots=True)
class _Case:
    """One tier before the decision."""

    name: str
    spec: AnyTier
    resolution: Resolution
    lacks: str = ""
    """What keeps the present inputs from being begun, as a sentence."""
    reason: str = reasons.WAITING_FOR_GPUS
    begun: bool = False
    missing: int = 0
    """Replicas that have to find room before the tier begins."""
    reading: Reading = KNOWN
    """What is known of the checkpoint."""


def courses(scene: Scene, room: Room) -> Mapping[str, Course]:
    """The course of every tier of the object, as the order among them has it."""
    trial = room.copy()
    cases = [_case(name, spec, scene, trial) for name, spec in in_order(scene)]
    blocked = any(case.lacks for case in cases)
    # An object that waits for more than GPUs keeps none from others.
    waits = all(case.reason == reasons.WAITING_FOR_GPUS for case in cases)
    return {case.name: _course(case, blocked, waits, scene) for case in cases}


def _case(name: str, spec: AnyTier, scene: Scene, trial: Room) -> _Case:
    rank = rank_of(scene, name, spec)
    trial.let_in(rank)
    trial.give_up(rank)
    resolution, reading = _resolve(name, spec, scene, trial)
    case = _Case(name, spec, resolution, reading=reading)
    replicas = scene.replicas(name)
    same = resolution.engine and any(one.revision == resolution.revision for one in replicas)
    if (resolution.recorded or same) and not reading.lacks:
        return replace(case, begun=True)
    if reading.lacks:
        return replace(case, lacks=reading.lacks, reason=reading.reason)
    if resolution.refusal is not None:
        lacks = f"cannot serve {spec.model.uri}: {resolution.refusal}"
        return replace(case, lacks=lacks, reason=resolution.refusal.reason)
    if resolution.engine is None:
        return replace(case, lacks="does not fit", reason=reasons.DOES_NOT_FIT)
    unknown = _unknown_priority(spec, scene)
    if unknown:
        return replace(case, lacks=unknown, reason=reasons.PRIORITY_CLASS_MISSING)
    _release_others(resolution.engine, scene, trial)
    return _find_room(case, resolution.engine, scene, trial)


def _unknown_priority(spec: AnyTier, scene: Scene) -> str:
    """Why no pod of the tier could be created, as a sentence; empty: it can."""
    name, classes = spec.placement.priority_class_name, scene.observed.priorities
    if not name or not classes.complete or name in classes.values:
        return ""
    return (
        f"names the PriorityClass {name} in placement.priorityClassName, and the cluster has none"
        " of that name: create it or name another"
    )


def _resolve(name: str, spec: AnyTier, scene: Scene, trial: Room) -> tuple[Resolution, Reading]:
    observed = scene.observed
    in_use = frozenset(one.revision for one in scene.replicas(name))
    records = Records(tuple(one for one in observed.revisions if one.tier == name), in_use)
    wanted = max(1, promised(spec))
    domains = observed.object.spec.gateway.media.allowed_domains
    secrets = observed.object.spec.image_pull_secrets
    inputs = Inputs(name, spec, secrets, scene.defaults, allowed_domains=domains)
    reading = _reading(inputs, records, scene)
    inputs = replace(inputs, facts=reading.facts, commit=reading.commit)

    def has_room(engine: EngineSpec) -> bool:
        after = trial
        if _others(engine, scene):
            after = trial.copy()
            _release_others(engine, scene, after)
        return after.count(demand_of(engine), wanted) == wanted

    def comes(engine: EngineSpec) -> bool:
        return can_come(spec, engine, scene.kinds)

    found = resolve(inputs, candidates(spec, scene.kinds), records, (has_room, comes))
    return found, reading


def _reading(inputs: Inputs, records: Records, scene: Scene) -> Reading:
    """What a preview was told of the checkpoint, else what was recorded, else what its Job told."""
    told = scene.observed.checkpoints.get(inputs.name)
    if told is not None:
        return Reading(facts=told, commit=str(told.get("commit", "")))
    record = records.matching(inputs.hash())
    if record is None and (scene.observed.hypothetical or scene.mode is Mode.PLAN):
        return KNOWN
    if record is None:
        return read(inputs.tier, scene.stock, scene.kinds, inputs.constraints, scene.defaults)
    engine, _ = read_record(record)
    facts = json.loads(engine.checkpoint) if engine.checkpoint else None
    known = Reading(facts=facts, commit=engine.model_revision)
    # What the platform allowed once it may allow no longer.
    refused = refusal(engine.uri, engine.cache, scene.defaults)
    return replace(known, lacks=refused.lacks, reason=refused.reason) if refused else known


def _find_room(case: _Case, engine: EngineSpec, scene: Scene, trial: Room) -> _Case:
    """Take the promised replicas' room, as it is once older revisions are gone."""
    demand, wanted = demand_of(engine), promised(case.spec)
    placed = len(trial.place(demand, wanted))
    older = _others(engine, scene)
    # Beside replicas that it can take the places of, a tier claims only what it lacks.
    missing = wanted - placed if older else wanted
    denied = trial.lack(demand, wanted - placed)
    # What a node autoscaler makes nodes for begins without them: its pods are how it is asked.
    comes = trial.lack(demand) is None and can_come(case.spec, engine, scene.kinds)
    # What comes later counts for the quotas before the other tiers do.
    trial.admit(demand, wanted - placed)
    if placed == wanted or comes:
        return replace(case, missing=missing)
    if denied is not None:
        return replace(case, lacks=denied.sentence, missing=missing, reason=denied.reason)
    rank = rank_of(scene, case.name, case.spec)
    lacks = shortage(trial, demand, rank)
    trial.keep(demand, rank, wanted - placed)
    return replace(case, lacks=lacks, missing=missing)


def _release_others(engine: EngineSpec, scene: Scene, room: Room) -> None:
    """Give back what replicas of other revisions of the tier hold."""
    for one in _others(engine, scene):
        room.let_go(one)


def _others(engine: EngineSpec, scene: Scene) -> list[Replica]:
    """Replicas of other revisions of the tier that hold GPUs."""
    revision = engine.revision()
    found = (one for one in scene.replicas(engine.tier) if one.revision != revision)
    return [one for one in found if one.node and not is_finished(one)]


def _course(case: _Case, blocked: bool, waits: bool, scene: Scene) -> Course:
    resolution = case.resolution
    told = case.reading.task, case.reading.retry_at, case.reading.facts
    if scene.mode is not Mode.PAUSED and (case.begun or not blocked):
        return Course(
            resolution, resolution.engine, resolution.revision, "", case.reason, (), *told
        )
    lacks = PAUSED_SENTENCE if scene.mode is Mode.PAUSED else case.lacks or TOGETHER_SENTENCE
    claims = _claims(case, scene) if waits and scene.mode is not Mode.PAUSED else ()
    before = _in_effect(case.name, scene)
    if before is None:
        return Course(resolution, None, "", lacks, case.reason, claims, *told)
    held = "" if before.hash == resolution.revision else lacks
    engine, _ = read_record(before)
    if refusal(engine.uri, engine.cache, scene.defaults):
        return Course(resolution, None, "", lacks, case.reason, claims, *told)
    return Course(resolution, engine, before.hash, held, case.reason, claims, *told)


def _claims(case: _Case, scene: Scene) -> tuple[Claim, ...]:
    engine = case.resolution.engine
    if engine is None or not case.missing:
        return ()
    return (Claim(rank_of(scene, case.name, case.spec), engine, case.missing),)


def _in_effect(name: str, scene: Scene) -> Revision | None:
    """The record of what the tier ran so far: as the status says, else by its replicas."""
    records = {one.hash: one for one in scene.observed.revisions if one.tier == name}
    shown = str(scene.stored(name).get("revision") or "")
    running = [one.revision for one in scene.replicas(name) if one.revision in records]
    known = [hash_ for hash_ in (shown, *sorted(running)) if hash_ in records]
    return records[known[0]] if known else None
