"""The agent's process: follow the volumes of one node, keep its disk as they ask."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.config import ConfigException
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from glm_operator.agent.decide import Volume, decide
from glm_operator.agent.disk import Disk
from glm_operator.agent.serve import Answer, health, serving
from glm_operator.api import names
from glm_operator.kube.resources import PERSISTENT_VOLUME
from glm_operator.kube.transport import Transport
from glm_operator.kube.watch import Change, Gone, Put, Snapshot, Watch
from glm_operator.manifests.weights import WEIGHTS_USER, node_hash

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How often the disk is looked at when no volume changes."""
SHORT_LOOK_SECONDS = 1.0
SILENT_SECONDS = 300.0
"""Bookmarks come about once a minute and a silent stream is opened again after 90 s.

What was heard longer ago is no reason to remove anything; the process is started anew.
"""
EXIT_FAILED = 1


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the agent is started with."""

    node: str
    root: Path
    collect_after_seconds: float = 600.0
    port: int = 9090
    """/healthz, /readyz and /metrics."""
    kubeconfig: str = ""
    """A kubeconfig file; empty: the pod's service account."""

    def problem(self) -> str:
        """What is wrong with the settings, as a sentence; empty: nothing."""
        if not self.root.is_absolute():
            return f"--root is {self.root}: use the whole path, as in /var/lib/glm-operator"
        if not self.collect_after_seconds >= 0:
            return f"--collect-after-seconds is {self.collect_after_seconds}: use 0 or more"
        if not 0 <= self.port <= 65535:
            return f"--port is {self.port}: use a number from 0 to 65535"
        return ""


class Gauges:
    """What the agent measures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.used = Gauge(
            "glm_operator_node_cache_bytes",
            "Bytes of weights and compile caches on the node's disk.",
            ["namespace"],
            registry=self.registry,
        )
        self.free = Gauge(
            "glm_operator_node_free_bytes",
            "Bytes that are free for weights on the node's disk.",
            registry=self.registry,
        )
        self.removed = Counter(
            "glm_operator_node_removed_total",
            "Copies and caches removed because no GLMDeployment needed them any more.",
            registry=self.registry,
        )
        self.failures = Counter(
            "glm_operator_node_failures_total",
            "What the agent could not do on the node's disk, by task; tried again later.",
            ["task"],
            registry=self.registry,
        )


def volume_of(raw: Mapping[str, Any]) -> Volume | None:
    """What the agent keeps of a PersistentVolume; None where it is no folder of a node."""
    local = raw["spec"].get("local") or {}
    annotations = raw["metadata"].get("annotations") or {}
    keep = annotations.get(names.ANNOTATION_KEEP, "").split()
    return Volume(local["path"], tuple(keep)) if local.get("path") else None


class Agent:
    """Keeps one disk as the volumes ask.

    Args:
        disk: the node's disk.
        collect_after: seconds after which something that nobody needs is removed.
        monotonic: a clock that never goes back, in seconds.
    """

    def __init__(self, disk: Disk, collect_after: float, monotonic: Callable[[], float]) -> None:
        self.gauges = Gauges()
        self.changed = threading.Event()
        """Set when there is something new to look at."""
        self._disk = disk
        self._after = collect_after
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._volumes: dict[str, Volume] | None = None
        self._heard_at = monotonic()
        self._since: dict[str, float] = {}

    def take(self, change: Change[Volume]) -> None:
        """Take in one change of the watch, from its thread."""
        with self._lock:
            self._heard_at = self._monotonic()
            match change:
                case Snapshot(items):
                    self._volumes = {name: item for (_, name), item in items.items()}
                case Put((_, name), item) if self._volumes is not None:
                    self._volumes[name] = item
                case Gone((_, name)) if self._volumes is not None:
                    self._volumes.pop(name, None)
                case _:
                    return
        self.changed.set()

    def illness(self) -> str:
        """Why the process should be restarted, or an empty string."""
        silent = self._monotonic() - self._heard_at
        if silent <= SILENT_SECONDS:
            return ""
        return f"nothing was heard of volumes for {silent:.0f} s"

    def unreadiness(self) -> str:
        """Why the disk is not kept at present, or an empty string."""
        return "volumes are not listed yet" if self._volumes is None else self.illness()

    def look(self) -> None:
        """Compare the disk with the volumes, if all of them are known as they are now."""
        with self._lock:
            volumes = None if self.unreadiness() else list((self._volumes or {}).values())
        if volumes is None:
            self._since = {}
            return
        root, present = str(self._disk.root), self._disk.present()
        now = self._monotonic()
        work = decide(root, volumes, present, self._since, now, self._after)
        for namespace in work.make:
            logger.info("making the folder of namespace %s", namespace)
            self._try("make", self._disk.make, namespace)
        self._since = dict(work.since)
        for path in work.remove:
            logger.info("removing %r: no GLMDeployment needs it", path)
            # What cannot be removed waits as long again.
            self._since[path] = now
            if self._try("remove", self._disk.remove, path):
                self.gauges.removed.inc()
                del self._since[path]

    def _try(self, task: str, work: Callable[[str], None], path: str) -> bool:
        """Whether that worked. What stands in the way of one path is no matter of the others."""
        try:
            work(path)
        except OSError as error:
            logger.error("cannot %s %r: %s", task, path, error)
            self.gauges.failures.labels(task).inc()
            return False
        return True

    def measure(self) -> None:
        """Bring the gauges up to date."""
        sizes, free = self._disk.sizes(), self._disk.free_bytes()
        self.gauges.used.clear()
        for namespace, count in sizes.items():
            self.gauges.used.labels(namespace).set(count)
        self.gauges.free.set(free)

    def run(self, stopping: threading.Event) -> None:
        """Look whenever something changed, and now and then, until told to stop."""
        pause = min(LOOK_SECONDS, max(SHORT_LOOK_SECONDS, self._after / 4))
        while not stopping.is_set():
            self.changed.clear()
            try:
                self.look()
                self.measure()
            except OSError as error:
                logger.error("the disk cannot be looked at: %s", error)
                self.gauges.failures.labels("look").inc()
            self.changed.wait(pause)


def run(settings: AgentSettings) -> int:
    """Run the agent until it is told to stop. Returns the exit code."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        transport = Transport.load(settings.kubeconfig)
        disk = Disk(settings.root, WEIGHTS_USER)
        agent = Agent(disk, settings.collect_after_seconds, time.monotonic)
        with serving(settings.port, pages(agent)):
            _follow(settings, transport, agent)
    except (ConfigException, OSError) as error:
        logger.error("the node agent cannot start: %s", error)
        return EXIT_FAILED
    return 0


def pages(agent: Agent) -> dict[str, Callable[[], Answer]]:
    """What the agent answers, by path."""
    return {
        "/healthz": lambda: health(agent.illness()),
        "/readyz": lambda: health(agent.unreadiness()),
        "/metrics": lambda: (200, generate_latest(agent.gauges.registry)),
    }


def _follow(settings: AgentSettings, transport: Transport, agent: Agent) -> None:
    """Keep the disk as the node's volumes ask, until a signal comes."""
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        agent.changed.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    mine = f"{names.LABEL_NODE}={node_hash(settings.node)}"
    watch = Watch(transport, PERSISTENT_VOLUME, volume_of, agent.take, labels=mine)
    watch.start()
    logger.info("keeping weights of node %s in %s", settings.node, settings.root)
    agent.run(stopping)
    watch.stop()
