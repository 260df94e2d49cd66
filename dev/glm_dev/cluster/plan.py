"""The whole of one cluster as data, written to disk before anything is started."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple, dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from glm_dev.cluster.addresses import AddressPlan
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.processes import Record
from glm_dev.cluster.shapes import NodeShape

TAG_PREFIX = "glm"
STATE_FILE = "cluster.json"
RUN = "run"
"""Folder of the records of processes."""
STARTING, READY = "Starting", "Ready"
ENGINE_ROOT = "/opt/vllm"
ENGINE_MODELS = "/models"
ENGINE_HANDLER = "glm-engine"
"""Name of the RuntimeClass, and of its handler in containerd."""


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Names, addresses and shapes of one cluster; everything else follows from it."""

    name: str
    directory: Path
    addresses: AddressPlan
    nodes: tuple[NodeShape, ...]
    engine: Path | None = None
    phase: str = STARTING
    owner: Record | None = None
    """The process whose end makes the cluster worthless; None if it is to stay."""

    @property
    def tag(self) -> str:
        """What the host's link and the cgroups are called; unique for each folder."""
        return TAG_PREFIX + hashlib.sha256(str(self.directory).encode()).hexdigest()[:6]

    @property
    def indexes(self) -> range:
        """The numbers of the nodes, from 1."""
        return range(1, len(self.nodes) + 1)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "admin.conf"

    @property
    def api_url(self) -> str:
        """Where the API server listens."""
        return f"https://{self.addresses.control_plane}:6443"

    def folder(self, name: str) -> Path:
        """One of the cluster's folders, created if missing."""
        folder = self.directory / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def node_name(self, index: int) -> str:
        """The Kubernetes name of node `index`, counted from 1."""
        return f"node-{index}"

    def node_folder(self, index: int) -> Path:
        """The disk of node `index`."""
        return self.directory / "nodes" / self.node_name(index)

    def node_index(self, text: str) -> int:
        """The index of a node given as `2` or `node-2`.

        Raises:
            ClusterError: there is no such node.
        """
        found = re.fullmatch(r"(?:node-)?(\d+)", text)
        if not found or not 1 <= int(found[1]) <= len(self.nodes):
            raise ClusterError(
                f"Cluster {self.name!r} has no node {text!r}; it has node-1 to "
                f"node-{len(self.nodes)}."
            )
        return int(found[1])

    def with_phase(self, phase: str) -> ClusterPlan:
        """The same cluster, further on."""
        return replace(self, phase=phase)

    def save(self) -> None:
        """Write the plan into the cluster's folder, whole or not at all."""
        partial = self.directory / f".{STATE_FILE}"
        partial.write_text(json.dumps(to_json(self), indent=1))
        partial.replace(self.directory / STATE_FILE)


def valid_name(name: str) -> str:
    """The name itself.

    Raises:
        ClusterError: it cannot be a folder's and a context's name.
    """
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise ClusterError(
            f"A cluster cannot be called {name!r}: use up to 32 lower-case letters, digits and "
            "dashes."
        )
    return name


def to_json(plan: ClusterPlan) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "name": plan.name,
        "cidr": str(plan.addresses.cidr),
        "nodes": [[n.gpu, n.gpus, n.cpus, n.memory_gib] for n in plan.nodes],
        "engine": str(plan.engine) if plan.engine else None,
        "phase": plan.phase,
        "owner": astuple(plan.owner) if plan.owner else None,
    }


def load_plan(directory: Path) -> ClusterPlan | None:
    """The plan in a cluster's folder; None if there is no cluster, or only its first instant."""
    try:
        data = json.loads((directory / STATE_FILE).read_text())
    except FileNotFoundError:
        return None
    return ClusterPlan(
        name=data["name"],
        directory=directory,
        addresses=AddressPlan(IPv4Network(data["cidr"])),
        nodes=tuple(NodeShape(*node) for node in data["nodes"]),
        engine=Path(data["engine"]) if data["engine"] else None,
        phase=data["phase"],
        owner=Record(*data["owner"]) if data.get("owner") else None,
    )
