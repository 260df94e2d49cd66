"""One reconcile pass: read, plan, execute, write status, tell events. Level-based."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Protocol

from glm_operator.api import names, reasons
from glm_operator.api.errors import InvalidObject
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import KubeError, SuccessorRefusedError
from glm_operator.kube.events import EventRecorder
from glm_operator.kube.execute import Executor, Owner
from glm_operator.kube.read import Reading, read_drivers, read_object, read_owned
from glm_operator.plan.actions import Action, CreatePod, Plan
from glm_operator.plan.observed import Defaults, GatewayReport, Observed, Replica, ScalingMemory
from glm_operator.plan.reading import JOB_REASONS
from glm_operator.runtime import troubles
from glm_operator.runtime.claims import Claims
from glm_operator.runtime.gateways import GatewayPoller
from glm_operator.runtime.inventory import Inventory
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.priorities import Priorities
from glm_operator.runtime.queue import Key
from glm_operator.runtime.turns import Turns
from glm_operator.runtime.verifier import Target, Verifier
from glm_operator.runtime.weights import WeightsPoller

logger = logging.getLogger(__name__)

IDLE_TICK_SECONDS = 10.0
"""Idle times are counted in tens of seconds; planning 50 objects on 500 nodes takes 0.4 s."""
FETCH_RESULTS = (reasons.WEIGHTS_FETCHED, reasons.WEIGHTS_JOB_FAILED, *JOB_REASONS)
"""Reasons of events that tell how a fetch ended."""
STATUS_MANAGER = f"{names.MANAGER}-status"


class Planner(Protocol):
    """The pure heart: `glm_operator.plan.planner.plan`."""

    def __call__(self, observed: Observed, now: float, defaults: Defaults) -> Plan:
        """What should be done for one object now."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended when it did not fail."""

    exists: bool
    requeue_after_seconds: float | None = None
    waits: bool = False
    """It hands out GPUs and it is not its turn: another pass is asked for when it is."""


@dataclass(slots=True)
class _Known:
    """What is remembered of an object between passes. Losing it costs time, not truth."""

    observed: Observed | None = None
    plan: Plan | None = None
    memory: Mapping[str, ScalingMemory] = field(default_factory=dict)
    signal: tuple[tuple[str, str, int, int, int], ...] = ()
    """The traffic at the last tick."""
    ticked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Scene:
    """What one pass found and wants. `observed` is None for an object that cannot be parsed."""

    raw: Mapping[str, Any]
    plan: Plan
    observed: Observed | None = None

    @property
    def before_pods(self) -> Sequence[Action]:
        """The actions up to the first pod: nobody has to wait for these."""
        return tuple(takewhile(lambda one: not isinstance(one, CreatePod), self.plan.actions))

    @property
    def allocates(self) -> bool:
        """Whether the plan hands out GPUs."""
        return len(self.before_pods) < len(self.plan.actions)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a reconciler works with."""

    cluster: Cluster
    inventory: Inventory
    priorities: Priorities
    gateways: GatewayPoller
    weights: WeightsPoller
    verifier: Verifier
    events: EventRecorder
    metrics: Metrics
    planner: Planner
    defaults: Defaults
    wall: Callable[[], float]
    wake: Callable[[Key], None]
    """Asks for a pass of a key."""


class Reconciler:
    """Brings objects to what their plans say.

    Passes of different keys may overlap; those that hand out GPUs do so one after another.
    """

    def __init__(self, parts: Parts) -> None:
        self.metrics = parts.metrics
        self._parts = parts
        self._executor = Executor(parts.cluster, self._created)
        self._turns = Turns(parts.wake)
        self._claims = Claims(parts.wake)
        self._known: dict[Key, _Known] = {}
        self._unheard: set[Key] = set()

    def waiting(self) -> list[Key]:
        """Objects that may have use for GPUs that become free, the first to be served first."""
        others = (key for key, known in self._known.items() if _waits(known.plan))
        return list(dict.fromkeys((*self._claims.waiting(), *others)))

    def hear_first(self, keys: Iterable[Key]) -> None:
        """Hand out no GPU before each of these objects has been passed: they may come first.

        A pass that fails counts too. What such an object claims stays unknown until a later one.
        """
        self._unheard = set(keys)
        if self._unheard:
            self._turns.close()

    def _heard(self, key: Key) -> None:
        if key in self._unheard:
            self._unheard.discard(key)
            if not self._unheard:
                self._turns.open()

    def _created(self, pod: Mapping[str, Any]) -> None:
        """In one step from a claim to a pod that holds GPUs, so that no plan sees both or none."""
        self._parts.inventory.assume(pod)
        labels = pod["metadata"]["labels"]
        key = pod["metadata"]["namespace"], labels[names.LABEL_DEPLOYMENT]
        self._claims.created(key, labels[names.LABEL_TIER])

    def known(self) -> frozenset[Key]:
        """Every object seen."""
        return frozenset(self._known)

    async def reconcile(self, key: Key) -> Outcome:
        """One pass.

        Raises:
            KubeError: something could not be read or done; a later pass begins anew.
        """
        waits = False
        try:
            outcome = await self._pass(key)
            waits = outcome.waits
            return outcome
        finally:
            # A key that waits may have been given the turn meanwhile, for its next pass.
            if not waits:
                self._turns.give_back(key)
            self._heard(key)

    async def _pass(self, key: Key) -> Outcome:
        scene = await self._look(key)
        if scene is not None and scene.allocates:
            await self._execute(key, scene, scene.before_pods)
            if not self._turns.take(key):
                await self._attend(key, scene)
                return Outcome(exists=True, waits=True)
            scene = await self._allocate(key)
        elif scene is not None:
            await self._execute(key, scene, scene.plan.actions)
        if scene is None:
            self.forget(key)
            return Outcome(exists=False)
        await self._conclude(key, scene)
        return Outcome(exists=True, requeue_after_seconds=scene.plan.requeue_after_seconds)

    async def _allocate(self, key: Key) -> _Scene | None:
        """Carry out a plan that hands out GPUs, in its turn; returns what was carried out."""
        # What others took meanwhile is seen only by looking again.
        scene = await self._look(key)
        if scene is not None:
            await self._execute(key, scene, scene.plan.actions)
        self._turns.give_back(key)
        return scene

    def forget(self, key: Key) -> None:
        """The object is gone, its owner references delete the rest."""
        self._known.pop(key, None)
        self._claims.withdraw(key)
        self._parts.gateways.forget(key)
        self._parts.weights.forget(key)
        self._parts.verifier.keep(key, ())
        self.metrics.forget(key)

    async def _look(self, key: Key) -> _Scene | None:
        """Read and plan; None when the object does not exist."""
        raw = await read_object(self._parts.cluster, *key)
        if raw is None:
            return None
        try:
            reading = await read_owned(self._parts.cluster, raw)
        except InvalidObject as error:
            self._known[key] = _Known()
            self._claims.withdraw(key)
            status = troubles.invalid(raw, str(error), self._now())
            return _Scene(raw, Plan(status=status))
        known = self._known.setdefault(key, _Known())
        self._follow(key, reading)
        observed = self._completed(key, reading.observed, known)
        if observed.deleting:
            self._claims.withdraw(key)
            return _Scene(raw, Plan(status=observed.status, scaling=known.memory), observed)
        observed = replace(observed, drivers=await read_drivers(self._parts.cluster, observed))
        plan = self._parts.planner(observed, self._now(), self._parts.defaults)
        self._claims.publish(key, plan.claims)
        return _Scene(raw, plan, observed)

    def _follow(self, key: Key, reading: Reading) -> None:
        replicas = reading.observed.replicas
        self._parts.weights.follow(key, reading.observed.weights)
        tiers = {name for name, _ in reading.observed.object.spec.tiers.items()}
        self._parts.gateways.follow(
            key,
            reading.gateways,
            draining=(one.name for one in replicas if one.draining_since is not None),
            asleep=tiers - {one.tier for one in replicas if not one.terminating},
        )

    def _completed(self, key: Key, observed: Observed, known: _Known) -> Observed:
        return replace(
            observed,
            nodes=self._parts.inventory.nodes(),
            gateways=self._parts.gateways.reports(key),
            weights=self._parts.weights.completed(key, observed.weights),
            scaling=known.memory,
            claims=self._claims.all(),
            priorities=self._parts.priorities.current(),
        )

    async def _execute(self, key: Key, scene: _Scene, actions: Sequence[Action]) -> None:
        if scene.observed is None:
            return
        try:
            await self._executor.execute(Owner(*key, scene.observed.uid), actions)
        except SuccessorRefusedError as error:
            # All else of the plan was done, and what was to go for the successor stays.
            self._claims.withdraw(key)
            status = troubles.failed(scene.plan.status, scene.observed, error, self._now())
            await self._conclude(key, replace(scene, plan=replace(scene.plan, status=status)))
            raise
        except KubeError as error:
            await self._tell_failure(key, scene, scene.observed, error)
            raise

    async def _conclude(self, key: Key, scene: _Scene) -> None:
        """After the actions: gates, status, checks and events, in this order."""
        plan, observed = scene.plan, scene.observed
        if observed is None:
            await self._write_status(key, scene, plan.status)
            return
        # Only now: a plan that is made again starts from the same memory.
        self._known[key] = _Known(observed, plan, plan.scaling)
        await self._void_gates(key, observed)
        await self._write_status(key, scene, plan.status)
        for tier, why in plan.scaled.items():
            self.metrics.scale_decisions.labels(tier, why).inc()
        self._verify(key, observed, plan)
        for event in plan.events:
            if event.reason in FETCH_RESULTS:
                self.metrics.weights_fetches.labels(event.reason).inc()
            await self._parts.events.record(Owner(*key, observed.uid), event)

    async def _attend(self, key: Key, scene: _Scene) -> None:
        """What a pass that waits for its turn does for the replicas that there are.

        Status, events and memory tell of a plan that was carried out; its turn brings them.
        """
        if scene.observed is not None:
            await self._void_gates(key, scene.observed)
            self._verify(key, scene.observed, scene.plan)

    async def _tell_failure(
        self, key: Key, scene: _Scene, observed: Observed, error: KubeError
    ) -> None:
        """Say in the status what will not pass by itself."""
        if troubles.is_lasting(error):
            # What it cannot have now it must not keep from others.
            self._claims.withdraw(key)
            status = troubles.failed(scene.plan.status, observed, error, self._now())
            await self._write_status(key, scene, status)

    async def _void_gates(self, key: Key, observed: Observed) -> None:
        for one in observed.replicas:
            if one.verified and one.verified_container != one.container_id and not one.terminating:
                await self._parts.verifier.void(key, one)

    async def _write_status(self, key: Key, scene: _Scene, status: Mapping[str, Any]) -> None:
        self.metrics.set_replicas(key, status)
        if status == (scene.raw.get("status") or {}):
            return
        manifest = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": key[1], "namespace": key[0], "uid": scene.raw["metadata"]["uid"]},
            "status": status,
        }
        await self._parts.cluster.apply_status(manifest, STATUS_MANAGER)

    def _verify(self, key: Key, observed: Observed, plan: Plan) -> None:
        self._parts.verifier.keep(key, (one.uid for one in observed.replicas))
        by_name = {one.name: one for one in observed.replicas}
        for name in plan.verify:
            self._parts.verifier.offer(target_of(key, by_name[name], observed))

    def _now(self) -> float:
        return self._parts.wall()

    def tick(self, key: Key) -> bool:
        """Plan an autoscaled object again on what is in memory; whether a pass would do something.

        This asks nothing of the API server, so it may happen every few seconds for every object.
        Where gateways tell nothing new it is done now and then only, for what time alone changes.
        """
        known = self._known.get(key)
        if known is None or known.observed is None or not is_autoscaled(known.observed):
            return False
        observed, now = self._completed(key, known.observed, known), self._now()
        signal = traffic(observed.gateways)
        if signal == known.signal and now - known.ticked_at < IDLE_TICK_SECONDS:
            return False
        known.signal, known.ticked_at = signal, now
        plan = self._parts.planner(observed, now, self._parts.defaults)
        if plan.actions or plan.status != observed.status:
            # The pass decides by itself, from the same memory: it tells of the change.
            return True
        known.memory = plan.scaling
        return False


def traffic(reports: Sequence[GatewayReport]) -> tuple[tuple[str, str, int, int, int], ...]:
    """What gateways report that scaling looks at: per gateway and tier, arrived, held, running."""
    return tuple(
        (report.pod, name, tier.arrivals, tier.held, tier.in_flight)
        for report in reports
        for name, tier in sorted(report.tiers.items())
    )


def is_autoscaled(observed: Observed) -> bool:
    """Whether the operator itself decides the number of flash replicas."""
    flash = observed.object.spec.tiers.flash
    return flash is not None and flash.scaling.mode == "Internal"


def target_of(key: Key, replica: Replica, observed: Observed) -> Target:
    """What to ask a replica: by its own revision, which may be older than the object."""
    data: Mapping[str, Any] = next(
        (one.data for one in observed.revisions if one.hash == replica.revision), {}
    )
    return Target(
        key=key,
        replica=replica,
        served_name=str(data.get("served_name", replica.tier)),
        sees=data.get("max_images") != 0,
    )


def _waits(plan: Plan | None) -> bool:
    """Whether an object lacks room for something it wants."""
    conditions = plan.status.get("conditions", ()) if plan is not None else ()
    return any(one["type"] == "Planned" and one["status"] != "True" for one in conditions)
