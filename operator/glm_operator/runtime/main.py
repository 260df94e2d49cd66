"""The operator's process: everything put together, one Lease around it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from glm_operator.kube.client import KubernetesCluster
from glm_operator.kube.errors import KubeError, LeaseLostError
from glm_operator.kube.events import EventRecorder
from glm_operator.kube.lease import Lease, LeaseSettings
from glm_operator.kube.retry import STREAMS
from glm_operator.kube.transport import Transport
from glm_operator.plan.planner import plan
from glm_operator.runtime.gateways import GatewayPoller
from glm_operator.runtime.health import HealthServer, Vitals
from glm_operator.runtime.http import PodHttp
from glm_operator.runtime.inventory import Inventory, watches
from glm_operator.runtime.kopf_thread import KopfThread, Register
from glm_operator.runtime.loop import Loop, Periods
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.priorities import Priorities
from glm_operator.runtime.priorities import watch as priorities_watch
from glm_operator.runtime.queue import Key, Queue
from glm_operator.runtime.reconciler import Parts, Reconciler
from glm_operator.runtime.roll import call_roll
from glm_operator.runtime.settings import Settings
from glm_operator.runtime.sweep import sweep_for_ever
from glm_operator.runtime.verifier import Verifier
from glm_operator.runtime.weights import WeightsPoller

logger = logging.getLogger(__name__)

LAST_PASS_SECONDS = 15.0
"""How long passes under way may take to end when the process is asked to stop."""
EXIT_FAILED = 1


def run(settings: Settings, register: Register) -> int:
    """Run the operator until it is told to stop. Returns the exit code.

    Args:
        settings: see there.
        register: adds the event handlers to kopf, `glm_operator.handlers.register`.
    """
    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    for chatty in ("kopf", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.root.level))
    # It warns that it does not handle signals in a thread; we do that.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
    return asyncio.run(serve(settings, register))


def identity(settings: Settings) -> str:
    """Who holds the Lease. A pod keeps its name over restarts of its container."""
    return settings.pod_name or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class Machine:
    """What lives as long as the process."""

    settings: Settings
    transport: Transport
    lease: Lease
    parts: Parts
    http: PodHttp
    queue: Queue
    loop: Loop

    def vitals(self) -> Vitals:
        """What health is judged by, now."""
        return Vitals(
            leading=self.lease.is_held(),
            synced=self.parts.inventory.synced.is_set() and self.parts.priorities.synced.is_set(),
            queue_age=self.queue.age(),
            inventory_age=self.parts.inventory.age(),
        )

    def refresh(self) -> None:
        """Bring the metrics of what is in memory up to date."""
        self.parts.metrics.leader.set(self.lease.is_held())
        self.parts.metrics.refresh(self.queue, self.parts.inventory)

    async def close(self) -> None:
        """Give back connections and threads."""
        await self.http.close()
        self.parts.cluster.close()


def assemble(settings: Settings) -> Machine:
    """Put the parts together; nothing runs yet."""
    transport = Transport.load(settings.kubeconfig, settings.context)
    name = identity(settings)
    lease = _lease(transport, settings, name)
    cluster = KubernetesCluster(transport, fence=lease.fence)
    metrics, http = Metrics(), PodHttp()
    queue = Queue(time.monotonic, random.random, metrics.queue_seconds.observe)
    priorities = Priorities(lambda: loop.reordered())
    inventory = Inventory(lambda change: loop.affected(change), time.monotonic, call_later)
    gateways = GatewayPoller(http, queue.add, metrics, monotonic=time.monotonic)
    verifier = Verifier(
        cluster, http, queue.add_after, metrics, wall=time.time, random=random.random
    )
    parts = Parts(
        cluster=cluster,
        inventory=inventory,
        priorities=priorities,
        gateways=gateways,
        weights=WeightsPoller(http, queue.add, monotonic=time.monotonic),
        verifier=verifier,
        events=EventRecorder(cluster, name, time.time),
        metrics=metrics,
        planner=plan,
        defaults=settings.defaults(),
        wall=time.time,
        wake=queue.add,
    )
    loop = _loop(queue, Reconciler(parts), settings)
    return Machine(settings, transport, lease, parts, http, queue, loop)


def call_later(seconds: float, work: Callable[[], None]) -> None:
    """Run a function in the running event loop after so many seconds."""
    asyncio.get_running_loop().call_later(seconds, work)


def _lease(transport: Transport, settings: Settings, name: str) -> Lease:
    """The Lease has a thread of its own, so that no other call can hold up a renewal."""
    return Lease(
        KubernetesCluster(transport, workers=1),
        lease_settings(settings, name),
        monotonic=time.monotonic,
        wall=time.time,
    )


def _loop(queue: Queue, reconciler: Reconciler, settings: Settings) -> Loop:
    return Loop(
        queue,
        reconciler,
        monotonic=time.monotonic,
        random=random.random,
        periods=Periods(settings.resync_seconds, settings.scale_seconds),
    )


def lease_settings(settings: Settings, name: str) -> LeaseSettings:
    """The Lease's times keep their proportions: stop writing well before a successor begins."""
    duration = settings.lease_seconds
    return LeaseSettings(
        namespace=settings.namespace,
        identity=name,
        duration_seconds=duration,
        deadline_seconds=duration * 2 / 3,
        retry_seconds=duration / 7.5,
    )


async def serve(settings: Settings, register: Register) -> int:
    """Wait for the Lease, work until stopped, stop in order. Returns the exit code."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    machine = assemble(settings)
    health = HealthServer(machine.vitals, machine.parts.metrics, machine.refresh)
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        ports = await health.start(settings.health_port, settings.metrics_port)
        logger.info("health on port %d, metrics on port %d", *ports)
        acquiring = asyncio.create_task(machine.lease.acquire(), name="acquire the Lease")
        await asyncio.wait({acquiring, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not acquiring.done():
            acquiring.cancel()
            return 0
        acquiring.result()
        return await lead(machine, register, stopping)
    finally:
        stopping.cancel()
        await health.close()
        await machine.close()


async def lead(machine: Machine, register: Register, stopping: asyncio.Task[Any]) -> int:
    """Work until told to stop, or until something ends that never should."""
    here = asyncio.get_running_loop()

    def post(work: Callable[[], None]) -> None:
        here.call_soon_threadsafe(work)

    streams = (
        *watches(machine.transport, machine.parts.inventory, post),
        priorities_watch(machine.transport, machine.parts.priorities, post),
    )
    kopf_thread = KopfThread(
        register,
        lambda key: post(lambda: machine.loop.seen(key)),
        machine.transport.connection,
        machine.settings.watch_namespaces,
    )
    begin = asyncio.Event()
    workers = [_task("worker", machine.loop.work(begin)) for _ in range(machine.settings.workers)]
    others = [
        _task("lease", machine.lease.keep()),
        _task("kopf", kopf_thread.ended()),
        _task("gateways", machine.parts.gateways.run()),
        _task("weights", machine.parts.weights.run()),
        _task("sweep", _sweep(machine)),
        _task("clock", keep_time(machine, begin)),
    ]
    machine.parts.inventory.begin()
    for stream in streams:
        stream.start()
    kopf_thread.start()
    await asyncio.wait({*workers, *others, stopping}, return_when=asyncio.FIRST_COMPLETED)
    code = exit_code([*workers, *others])
    for stream in streams:
        stream.stop()
    await _finish(machine, workers, others)
    await kopf_thread.stop()
    await machine.lease.release()
    return code


async def _sweep(machine: Machine) -> None:
    """Volumes are only there, and may only be looked at, where nodes keep weights."""
    if machine.settings.node_local or machine.settings.node_paths:
        await sweep_for_ever(machine.parts.cluster, machine.settings.watch_namespaces)
    await asyncio.Event().wait()


async def keep_time(machine: Machine, begin: asyncio.Event) -> None:
    """Let the workers begin once enough is known, then scale by the clock for ever."""
    # Before the nodes are known everything would seem not to fit.
    await machine.parts.inventory.synced.wait()
    await machine.parts.priorities.synced.wait()
    machine.loop.begin(await _roll(machine))
    begin.set()
    await machine.loop.tick()


async def _roll(machine: Machine) -> list[Key]:
    """Call the roll until it is answered: nothing else can be read either before."""
    failures = 0
    while True:
        try:
            return await call_roll(machine.parts.cluster, machine.settings.watch_namespaces)
        except LeaseLostError:
            raise
        except KubeError as error:
            failures += 1
            logger.warning("the objects cannot be listed: %s", error)
            await asyncio.sleep(STREAMS.delay(failures, random.random, error.retry_after))


async def _finish(
    machine: Machine, workers: list[asyncio.Task[None]], others: list[asyncio.Task[None]]
) -> None:
    """End the passes under way while the Lease is still renewed, then everything else."""
    machine.loop.stop()
    await asyncio.wait(workers, timeout=LAST_PASS_SECONDS)
    await machine.parts.verifier.close()
    for task in (*workers, *others):
        task.cancel()
    await asyncio.gather(*workers, *others, return_exceptions=True)


def exit_code(tasks: list[asyncio.Task[None]]) -> int:
    """0 when nothing ended by itself; what did is logged."""
    ended = [task for task in tasks if task.done()]
    for task in ended:
        error = task.exception()
        if isinstance(error, LeaseLostError):
            logger.error("stopping: %s", error)
        else:
            logger.error("stopping: %s ended", task.get_name(), exc_info=error)
    return EXIT_FAILED if ended else 0


def _task(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work, name=name)
