"""Nodes without a machine, by KWOK: hundreds of them, for scheduling and load of the API only."""

from __future__ import annotations

from typing import Any

from glm_dev.cluster import pki
from glm_dev.cluster.api import ApiClient
from glm_dev.cluster.binaries import KWOK, Say, build
from glm_dev.cluster.commands import run
from glm_dev.cluster.control_plane import start_program
from glm_dev.cluster.plan import ClusterPlan
from glm_dev.cluster.shapes import NodeShape
from glm_dev.cluster.teardown import processes

PROGRAM = "kwok"
ANNOTATION = "kwok.x-k8s.io/node"
TAINT = {"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}
"""Keeps real pods away: nothing runs on these nodes."""
PODS = "110"


def ensure_running(plan: ClusterPlan, say: Say) -> None:
    """Build KWOK on first use and start it unless it runs."""
    record = processes(plan).get(PROGRAM)
    if record and record.alive:
        return
    build([KWOK], say)
    conf = plan.folder("conf")
    stages = conf / "kwok-stages.yaml"
    stages.write_text(run(str(KWOK.path("stages"))))
    kubeconfig = pki.write_kubeconfig(plan, PROGRAM, conf / "kwok.conf")
    command = [
        str(KWOK.path(PROGRAM)),
        f"--kubeconfig={kubeconfig}",
        f"--config={stages}",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        "--node-lease-duration-seconds=40",
    ]
    start_program(plan, PROGRAM, command)


def create_nodes(api: ApiClient, count: int, shape: NodeShape) -> list[str]:
    """Create so many more nodes `kwok-N`, and return their names."""
    there = sum(name.startswith("kwok-") for name in api.names("/api/v1/nodes"))
    names = [f"kwok-{there + number}" for number in range(1, count + 1)]
    for name in names:
        api.create("/api/v1/nodes", manifest(name, shape))
    return names


def manifest(name: str, shape: NodeShape) -> dict[str, Any]:
    """A Node of a shape; KWOK makes it Ready and keeps its size."""
    size = {"cpu": str(shape.cpus), "memory": f"{shape.memory_gib}Gi", "pods": PODS}
    if shape.gpus:
        size["nvidia.com/gpu"] = str(shape.gpus)
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": PROGRAM}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake"},
            "labels": {**labels, **shape.labels()},
        },
        "spec": {"taints": [TAINT]},
        "status": {"capacity": size, "allocatable": size},
    }
