"""Which weights Jobs and node volumes an object should have now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from glm_operator.api.enums import Mode, PrePull
from glm_operator.api.tier import FlashTier
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan.claims import demand_of
from glm_operator.plan.observed import Replica, WeightsJob
from glm_operator.plan.promises import scaled_by_operator
from glm_operator.plan.replicas import is_finished
from glm_operator.plan.resolve import read_record
from glm_operator.plan.room import Room
from glm_operator.plan.scene import Scene
from glm_operator.plan.stock import NODE_PATH, brings, fetch_task, is_fetched, is_on_node
from glm_operator.plan.tier import TierPlan


@dataclass(frozen=True, slots=True)
class TierTask:
    """A weights Job that should exist, and the tier that it is for."""

    tier: str
    task: WeightsTask
    wanted: bool = True
    """Whether a replica is to come of it, or runs on it; else it is only remembered."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What an object needs of one node's disk."""

    node: str
    uri: str = ""
    """A file:// address; empty: the folder in which copies are kept."""
    keys: tuple[str, ...] = ()
    """Copies that the object needs there."""
    engines: tuple[EngineSpec, ...] = ()
    """Engines that may run there, for their compile caches."""


@dataclass(frozen=True, slots=True)
class Fetches:
    """All weights Jobs and node volumes of an object as they should be now."""

    tasks: tuple[TierTask, ...] = ()
    volumes: tuple[Volume, ...] = ()
    wake_at: tuple[float, ...] = ()
    """When a Job that failed is tried again."""


def fetches(scene: Scene, tiers: Sequence[TierPlan], room: Room) -> Fetches:
    """What should exist. `room`: what is left once every tier has its place."""
    if scene.mode is Mode.PLAN:
        # Nothing is created, and what there is stays.
        kept = tuple(one for tier in tiers for one in _kept(scene, tier))
        return Fetches(kept)
    found = _once(one for tier in tiers for one in _tasks(scene, tier, room))
    return Fetches(
        found, tuple(_volumes(scene, tiers, found)), tuple(_wake_at(scene, tiers, found))
    )


def _once(tasks: Iterable[TierTask]) -> tuple[TierTask, ...]:
    """Each task once for each tier, and of one checkpoint at one place the same for all tiers."""
    first: dict[WeightsTask, WeightsTask] = {}
    found: dict[tuple[str, WeightsTask], TierTask] = {}
    for one in sorted(tasks, key=lambda one: not one.wanted):
        task = first.setdefault(one.task.identity, one.task)
        found.setdefault((one.tier, task), replace(one, task=task))
    return tuple(found.values())


def _tasks(scene: Scene, tier: TierPlan, room: Room) -> Iterator[TierTask]:
    """The tasks of one tier, the most urgent first."""
    if tier.course.read is not None and not tier.course.resolution.recorded:
        yield TierTask(tier.name, tier.course.read)
    engine = tier.course.engine
    if engine is not None and is_fetched(engine):
        yield from (TierTask(tier.name, task) for task in _planned(scene, tier, engine))
        ahead = _ahead(scene, tier, engine, room)
        yield from (TierTask(tier.name, task, wanted=False) for task in ahead)
    yield from _kept(scene, tier)


def _kept(scene: Scene, tier: TierPlan) -> Iterator[TierTask]:
    """What Jobs brought, or learnt, for what the tier is brought to and for all that runs."""
    for _, engine in _engines(scene, tier):
        jobs = (one for one in _jobs_of(scene, engine) if not scene.stock.is_over(one))
        yield from (TierTask(tier.name, job.task, wanted=False) for job in jobs)


def _planned(scene: Scene, tier: TierPlan, engine: EngineSpec) -> Iterator[WeightsTask]:
    """Where replicas have room, and where replicas that run would look for weights again."""
    if not is_on_node(engine):
        yield scene.stock.due(fetch_task(engine))
        return
    running = (one.node for one in tier.moves.keep if one.revision == tier.course.revision)
    for name in dict.fromkeys((*tier.prepare, *running)):
        if name in scene.view.nodes:
            yield scene.stock.due(fetch_task(engine, scene.view.nodes[name]))


def _ahead(scene: Scene, tier: TierPlan, engine: EngineSpec, room: Room) -> Iterator[WeightsTask]:
    """The next node on which flash may grow: one at a time, once all that is planned is there."""
    spec = tier.spec
    if not isinstance(spec, FlashTier) or spec.weights.pre_pull is PrePull.DISABLED:
        return
    if not is_on_node(engine) or tier.prepare or scene.mode is not Mode.LIVE:
        return
    demand = replace(demand_of(engine), holders=scene.stock.holders(engine), resources=None)
    if demand.holders.coming:
        return
    most = spec.scaling.max_replicas if scaled_by_operator(spec) else spec.replicas
    places = room.copy().place(demand, most - tier.desired)
    colder = (node for node in places if not demand.holders.holds(node.name))
    yield from (scene.stock.due(fetch_task(engine, node)) for node in list(colder)[:1])


def _engines(scene: Scene, tier: TierPlan) -> list[tuple[str, EngineSpec]]:
    """Revision and engine of what the tier is brought to and of all that runs."""
    used = {one.revision for one in tier.fleet.all if not is_finished(one)}
    recorded = [
        (one.hash, read_record(one)[0])
        for one in scene.observed.revisions
        if one.tier == tier.name and one.hash in used and one.hash != tier.course.revision
    ]
    wanted = tier.course.engine
    present = [] if wanted is None else [(tier.course.revision, wanted)]
    return [one for one in (*present, *recorded) if is_fetched(one[1])]


def _jobs_of(scene: Scene, engine: EngineSpec) -> list[WeightsJob]:
    return [job for job in scene.stock.jobs if brings(job.task, engine)]


def _volumes(
    scene: Scene, tiers: Sequence[TierPlan], tasks: Iterable[TierTask]
) -> Iterator[Volume]:
    """One for each node and place on it that a task or a replica uses."""
    wanted: dict[tuple[str, str], dict[str, list[EngineSpec]]] = {}
    for one in tasks:
        if one.task.node:
            keys = wanted.setdefault((one.task.node, _folder(one.task.uri)), {})
            keys.update({one.task.key: []} if one.task.kind is TaskKind.FETCH else {})
    for engine, replicas in (*_running(scene, tiers), *_leaving(scene, tiers)):
        if is_on_node(engine):
            _use(wanted, replicas, engine)
    for (node, uri), by_key in sorted(wanted.items()):
        if node in scene.view.nodes:
            used = tuple(engine for engines in by_key.values() for engine in engines)
            yield Volume(node, uri, tuple(sorted(by_key)), used)


def _running(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[tuple[EngineSpec, list[Replica]]]:
    for tier in tiers:
        for revision, engine in _engines(scene, tier):
            yield engine, [one for one in tier.fleet.all if one.revision == revision]


def _leaving(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[tuple[EngineSpec, list[Replica]]]:
    """Replicas of tiers that the object has no more: while they drain, or it is paused."""
    present = {tier.name for tier in tiers}
    for record in (one for one in scene.observed.revisions if one.tier not in present):
        engine, _ = read_record(record)
        replicas = scene.replicas(record.tier)
        mine = [one for one in replicas if one.revision == record.hash and not is_finished(one)]
        if mine and is_fetched(engine):
            yield engine, mine


def _folder(uri: str) -> str:
    """What of an address names the place on a node; empty: the folder of copies."""
    return uri if uri.startswith(NODE_PATH) else ""


def _use(
    wanted: dict[tuple[str, str], dict[str, list[EngineSpec]]],
    replicas: Iterable[Replica],
    engine: EngineSpec,
) -> None:
    """Count the replicas of an engine, whatever became of their Jobs, and their compile caches."""
    folder, key = _folder(engine.uri), fetch_task(engine).key
    for one in replicas:
        if one.node:
            keys = wanted.setdefault((one.node, folder), {})
            keys.update({} if folder else {key: keys.get(key, [])})
    for keys in (keys for (_, place), keys in wanted.items() if place == folder):
        if key in keys and engine not in keys[key]:
            keys[key].append(engine)


def _wake_at(scene: Scene, tiers: Sequence[TierPlan], tasks: Iterable[TierTask]) -> Iterator[float]:
    found = [one.task for one in tasks]
    times = [at(task) for task in found for at in (scene.stock.changes_at, scene.stock.looked_at)]
    times += [tier.course.retry_at for tier in tiers]
    yield from (at for at in times if at is not None)
