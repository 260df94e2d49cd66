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

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from glm_operator.agent.decide import Volume, decide
from glm_operator.agent.disk import Disk
from glm_operator.api import names
from glm_operator.kube.resources import PERSISTENT_VOLUME
from glm_operator.kube.transport import Transport
from glm_operator.kube.watch import Change, Gone, Heard, Put, Snapshot, Watch
from glm_operator.manifests.weights import WEIGHTS_USER, node_hash

logger = logging.getLogger(__name__)

LOOK_SECONDS = 30.0
"""How often the disk is looked at when no volume changes."""
SHORT_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What the agent is started with."""

    node: str
    root: Path
    collect_after_seconds: float = 600.0
    port: int = 9090
    """/metrics; it answers as long as the process lives."""
    kubeconfig: str = ""
    """A kubeconfig file; empty: the pod's service account."""


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
        self._since: Mapping[str, float] = {}

    def take(self, change: Change[Volume]) -> None:
        """Take in one change of the watch, from its thread."""
        with self._lock:
            match change:
                case Snapshot(items):
                    self._volumes = {name: item for (_, name), item in items.items()}
                case Put((_, name), item) if self._volumes is not None:
                    self._volumes[name] = item
                case Gone((_, name)) if self._volumes is not None:
                    self._volumes.pop(name, None)
                case Heard():
                    return
                case _:
                    return
        self.changed.set()

    def look(self) -> None:
        """Compare the disk with the volumes, once the list of them is complete."""
        with self._lock:
            volumes = None if self._volumes is None else list(self._volumes.values())
        if volumes is None:
            return
        root, present = str(self._disk.root), self._disk.present()
        now = self._monotonic()
        work = decide(root, volumes, present, self._since, now, self._after)
        for namespace in work.make:
            logger.info("making the folder of namespace %s", namespace)
            self._disk.make(namespace)
        for path in work.remove:
            logger.info("removing %s: no GLMDeployment needs it", path)
            self._disk.remove(path)
            self.gauges.removed.inc()
        self._since = {path: at for path, at in work.since.items() if path not in work.remove}

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self.gauges.used.clear()
        for namespace, count in self._disk.sizes().items():
            self.gauges.used.labels(namespace).set(count)
        self.gauges.free.set(self._disk.free_bytes())

    def run(self, stopping: threading.Event) -> None:
        """Look whenever something changed, and now and then, until told to stop."""
        pause = min(LOOK_SECONDS, max(SHORT_LOOK_SECONDS, self._after / 4))
        while not stopping.is_set():
            self.changed.clear()
            self.look()
            self.measure()
            self.changed.wait(pause)


def run(settings: AgentSettings) -> int:
    """Run the agent until it is told to stop. Returns the exit code."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    agent = Agent(Disk(settings.root, WEIGHTS_USER), settings.collect_after_seconds, time.monotonic)
    stopping = threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        agent.changed.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    server, thread = start_http_server(settings.port, registry=agent.gauges.registry)
    mine = f"{names.LABEL_NODE}={node_hash(settings.node)}"
    transport = Transport.load(settings.kubeconfig, "")
    watch = Watch(transport, PERSISTENT_VOLUME, volume_of, agent.take, labels=mine)
    watch.start()
    logger.info("keeping weights of node %s in %s", settings.node, settings.root)
    agent.run(stopping)
    watch.stop()
    server.shutdown()
    thread.join()
    return 0
