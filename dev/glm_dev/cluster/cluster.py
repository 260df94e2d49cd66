"""A real Kubernetes of several nodes on this machine, as one object."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from glm_dev.cluster import (
    addresses,
    binaries,
    images,
    kwok,
    nodes,
    preflight,
    registry,
    startup,
    teardown,
)
from glm_dev.cluster.api import ApiClient
from glm_dev.cluster.binaries import Say, say_on_stderr
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.locks import exclusive
from glm_dev.cluster.node_config import SOCKET
from glm_dev.cluster.plan import ClusterPlan
from glm_dev.cluster.processes import myself
from glm_dev.cluster.shapes import NodeShape, parse_nodes, parse_shape
from glm_dev.kubectl import Kubectl

DEFAULT_NAME = "glm"
DEFAULT_NODES = "2x8xH100-80GB,1x4xL4-24GB"


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What to start; see `python -m glm_dev.cluster up --help` for each part."""

    name: str = DEFAULT_NAME
    nodes: str = DEFAULT_NODES
    cidr: str = ""
    cpus: int = 0
    memory_gib: int = 0
    engine: Path | None = None
    images: tuple[Path, ...] = ()
    temporary: bool = False
    """Whether the cluster is worth nothing without the process that starts it. If that process is
    killed, the next `up` of any cluster removes this one."""

    def shapes(self) -> tuple[NodeShape, ...]:
        """The nodes. Raises ClusterError if they cannot be read."""
        return parse_nodes(self.nodes, self.cpus, self.memory_gib)

    def plan(self) -> ClusterPlan:
        """The cluster, with addresses still to be chosen unless a range is given.

        Raises:
            ClusterError: a part of the specification cannot be.
        """
        shapes = self.shapes()
        return ClusterPlan(
            name=self.name,
            directory=registry.cluster_folder(self.name),
            addresses=addresses.plan_addresses(
                self.cidr or str(addresses.BENCHMARK_RANGE), len(shapes)
            ),
            nodes=shapes,
            engine=self.engine.resolve() if self.engine else None,
            owner=myself() if self.temporary else None,
        )


class LocalCluster:
    """One cluster on this machine; it outlives the process that started it until `down()`."""

    def __init__(self, plan: ClusterPlan, say: Say = say_on_stderr) -> None:
        self.plan = plan
        self._say = say

    @classmethod
    def up(cls, spec: ClusterSpec | None = None, say: Say = say_on_stderr) -> LocalCluster:
        """Start a cluster and return when every node is Ready.

        Raises:
            ClusterError: it is up already, the machine is not fit, or it did not start; then
                nothing of it remains but its logs, which the message names.
        """
        spec = spec or ClusterSpec()
        preflight.require_linux_root()
        plan = spec.plan()
        registry.remove_orphans(say)
        with exclusive(registry.lock_name(spec.name), registry.LOCK_SECONDS):
            registry.make_way(spec.name, say)
            preflight.check_machine(plan, say)
            seed = startup.build(plan, spec.images, say)
            started = time.monotonic()
            plan = startup.start(startup.claim(plan, spec.cidr), seed)
        say(f"Cluster {plan.name!r} is up in {time.monotonic() - started:.1f} s")
        return cls(plan, say)

    @classmethod
    def open(cls, name: str = DEFAULT_NAME, say: Say = say_on_stderr) -> LocalCluster:
        """A cluster that is up.

        Raises:
            ClusterError: there is none of that name.
        """
        return cls(registry.find(name), say)

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.plan.name

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.plan.kubeconfig

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for this cluster."""
        return Kubectl(binaries.KUBERNETES.path("kubectl"), self.kubeconfig)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    def down(self) -> None:
        """Remove this cluster with everything it has on the machine; harmless if repeated."""
        registry.remove(self.name)

    def describe(self) -> str:
        """Some lines on what runs, for people."""
        lines = [f"{self.name}: {self.plan.phase}, {self.plan.addresses.cidr}"]
        running = self.running_nodes()
        for index, shape in enumerate(self.plan.nodes, 1):
            state = "up" if index in running else "down"
            lines.append(f"  {self.plan.node_name(index)} {state}: {shape}")
        for name, record in teardown.processes(self.plan).items():
            if not record.alive:
                lines.append(f"  {name} has ended")
        return "\n".join([*lines, f"  export KUBECONFIG={self.kubeconfig}"])

    def load(self, archives: Sequence[Path]) -> None:
        """Import image archives into every node that runs.

        Raises:
            ClusterError: an archive is missing or broken.
        """
        for archive in archives:
            if not archive.is_file():
                raise ClusterError(f"There is no image archive {archive}.")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda index: self._load_node(index, archives), self.running_nodes()))

    def _load_node(self, index: int, archives: Sequence[Path]) -> None:
        for archive in archives:
            images.import_archive(archive, SOCKET, nodes.enter(self.plan, index))

    def running_nodes(self) -> list[int]:
        """The indexes of the nodes that are not down."""
        return [index for index in self.plan.indexes if nodes.process_one(self.plan, index)]

    def node_down(self, node: str) -> None:
        """Lose a machine, as by a power cut; its disk stays."""
        nodes.stop(self.plan, self.plan.node_index(node))
        startup.route_services(self.plan)

    def node_up(self, node: str) -> None:
        """Start a machine that was lost, and return once it is Ready with its GPUs.

        Raises:
            ClusterError: it is up, or does not become Ready.
        """
        index = self.plan.node_index(node)
        if nodes.process_one(self.plan, index):
            raise ClusterError(f"{self.plan.node_name(index)} is up already.")
        since = datetime.now(UTC)
        nodes.start(self.plan, index)
        startup.route_services(self.plan)
        startup.wait_nodes(self.plan, [index], since)

    def stop_kubelet(self, node: str) -> None:
        """End a node's kubelet alone."""
        nodes.stop_kubelet(self.plan, self.plan.node_index(node))

    def start_kubelet(self, node: str) -> None:
        """Start a node's kubelet again."""
        nodes.start_kubelet(self.plan, self.plan.node_index(node))

    def set_gpu_health(self, node: str, gpu: int, healthy: bool) -> None:
        """Break or mend a GPU; the kubelet knows within a second."""
        nodes.set_gpu_health(self.plan, self.plan.node_index(node), gpu, healthy)

    def add_kwok_nodes(self, count: int, shape: str) -> list[str]:
        """Add nodes without a machine, for example `add_kwok_nodes(100, "8xH100-80GB")`.

        They are tainted with kwok.x-k8s.io/node=fake. Returns their names once all are Ready.
        """
        pretended = parse_shape(shape)
        kwok.ensure_running(self.plan, self._say)
        names = kwok.create_nodes(ApiClient(self.plan), count, pretended)
        for name in names:
            startup.wait_node(self.plan, name, pretended.gpus)
        return names
