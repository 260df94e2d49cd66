"""What each tier runs: its present inputs if they fit, else what it ran before.

An object that does not fit takes no GPU: what is new begins together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glm_operator.api.enums import Mode
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.observed import Revision
from glm_operator.plan.placement import Room
from glm_operator.plan.replicas import is_finished
from glm_operator.plan.resolve import Inputs, Records, Resolution, read_record, resolve
from glm_operator.plan.tier import Course, Scene, Tier, demand_of, promised

PAUSED_SENTENCE = "has an edit that waits until mode is Live again"
TOGETHER_SENTENCE = "waits, because the object begins as a whole"


@dataclass(frozen=True, slots=True)
class _Case:
    """One tier before the decision."""

    name: str
    resolution: Resolution
    lacks: str = ""
    """What keeps the present inputs from being begun, as a sentence."""
    begun: bool = False


def courses(scene: Scene, room: Room) -> Mapping[str, Course]:
    """The course of every tier of the object, the flagship first."""
    trial = room.copy()
    cases = [
        _case(name, spec, scene, trial) for name, spec in scene.observed.object.spec.tiers.items()
    ]
    blocked = any(case.lacks for case in cases)
    return {case.name: _course(case, blocked, scene) for case in cases}


def _case(name: str, spec: Tier, scene: Scene, trial: Room) -> _Case:
    resolution = _resolve(name, spec, scene, trial)
    if resolution.engine is None:
        return _Case(name, resolution, "does not fit")
    replicas = scene.replicas(name)
    begun = resolution.recorded or any(one.revision == resolution.revision for one in replicas)
    if begun:
        return _Case(name, resolution, begun=True)
    return _Case(name, resolution, _claim(spec, resolution.engine, scene, trial))


def _resolve(name: str, spec: Tier, scene: Scene, trial: Room) -> Resolution:
    observed = scene.observed
    inputs = Inputs(name, spec, observed.object.spec.image_pull_secrets, scene.defaults)
    in_use = frozenset(one.revision for one in scene.replicas(name))
    records = Records(tuple(one for one in observed.revisions if one.tier == name), in_use)
    wanted = max(1, promised(spec))

    def has_room(engine: EngineSpec) -> bool:
        after = trial.copy()
        _release_others(engine, scene, after)
        return after.count(demand_of(engine), wanted) == wanted

    return resolve(inputs, observed.nodes, records, has_room)


def _claim(spec: Tier, engine: EngineSpec, scene: Scene, trial: Room) -> str:
    """Take the promised replicas' room, as it is once older revisions are gone."""
    _release_others(engine, scene, trial)
    demand = demand_of(engine)
    for _ in range(promised(spec)):
        if trial.take(demand) is None:
            return trial.shortage(demand)
    return ""


def _release_others(engine: EngineSpec, scene: Scene, room: Room) -> None:
    """Give back what replicas of other revisions of the tier hold."""
    revision = engine.revision()
    for one in scene.replicas(engine.tier):
        if one.revision != revision and one.node and not is_finished(one):
            room.release(one.node, one.resource, one.gpus)


def _course(case: _Case, blocked: bool, scene: Scene) -> Course:
    resolution = case.resolution
    if scene.mode is not Mode.PAUSED and (case.begun or not blocked):
        return Course(resolution, resolution.engine, resolution.revision)
    lacks = PAUSED_SENTENCE if scene.mode is Mode.PAUSED else case.lacks or TOGETHER_SENTENCE
    before = _in_effect(case.name, scene)
    if before is None:
        return Course(resolution, held=lacks)
    held = "" if before.hash == resolution.revision else lacks
    return Course(resolution, read_record(before)[0], before.hash, held)


def _in_effect(name: str, scene: Scene) -> Revision | None:
    """The record of what the tier ran so far: as the status says, else by its replicas."""
    records = {one.hash: one for one in scene.observed.revisions if one.tier == name}
    shown = str(scene.stored(name).get("revision") or "")
    running = [one.revision for one in scene.replicas(name) if one.revision in records]
    known = [hash_ for hash_ in (shown, *sorted(running)) if hash_ in records]
    return records[known[0]] if known else None
