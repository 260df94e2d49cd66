"""How long one object's plan takes as the cluster grows: most GPUs taken, and others in line."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

from glm_dev.bench.chart import Axes, Line, draw
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.observed import Defaults, Hold, Node, Observed
from glm_operator.plan.order import Claim
from glm_operator.plan.planner import plan

SIZES = (10, 30, 100, 300, 1_000, 3_000, 5_000)
GPUS_PER_NODE = 8
NODES_PER_OBJECT = 5
"""With 5,000 nodes 1,000 objects are present: four whole nodes and half of a fifth each."""
WAITING_SHARE = 20
"""One object for so many others waits for GPUs, at most `MOST_WAITING`."""
MOST_WAITING = 50
GPU = "nvidia.com/gpu"
NOW = 1_700_000_000.0
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}
FLAGSHIP = {"preset": "GLM-4.6V", "uri": "image:///models/f", "quantization": "FP8"}
FLASH = {"preset": "GLM-4.6V-Flash", "uri": "image:///models/s", "quantization": "BF16"}
MINE = {
    "flagship": {"model": FLAGSHIP, "replicas": 2},
    "flash": {"model": FLASH, "scaling": {"mode": "Off"}, "replicas": 8},
}
OTHERS: tuple[Mapping[str, Any], ...] = (
    {"flagship": {"model": FLAGSHIP, "parallelism": {"tensor": "8"}, "replicas": 2}},
    {"flagship": {"model": FLAGSHIP, "parallelism": {"tensor": "4"}}, "flash": MINE["flash"]},
    {"flash": {"model": FLASH, "scaling": {"mode": "Off"}, "replicas": 4}},
)
"""What waiting objects want."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size of cluster, and the median CPU milliseconds of one plan."""

    nodes: int
    objects: int
    waiting: int
    alone: float
    """Nobody else is there: every node is empty."""
    shared: float
    """The other objects hold most GPUs, and some of them wait for more."""


def points(repeats: int) -> list[Point]:
    """Measure every size."""
    return [point(size, repeats) for size in SIZES]


def point(size: int, repeats: int) -> Point:
    """Measure one size: two flagship and eight flash replicas to place."""
    alone = observe("vision", MINE, tuple(node(index) for index in range(size)), NOW)
    crowded = taken(size)
    objects = size // NODES_PER_OBJECT
    claims = waiting(crowded, min(MOST_WAITING, -(-objects // WAITING_SHARE)))
    shared = replace(observe("vision", MINE, crowded, NOW), claims=claims)
    names = {claim.rank.name for claim in claims}
    return Point(size, objects, len(names), cost(alone, repeats), cost(shared, repeats))


def cost(observed: Observed, repeats: int) -> float:
    """Median CPU milliseconds of one plan."""
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        plan(observed, NOW, Defaults())
        spent.append((time.process_time() - started) * 1000)
    return statistics.median(spent)


def node(index: int, holds: tuple[Hold, ...] = ()) -> Node:
    """A node of eight H100 in one of three zones."""
    zone = {"topology.kubernetes.io/zone": f"zone-{index % 3}"}
    return Node(f"node-{index:05}", LABELS | zone, allocatable={GPU: GPUS_PER_NODE}, holds=holds)


def taken(size: int) -> tuple[Node, ...]:
    """Nodes with the pods of the objects that are present; of each fifth, half is free."""
    return tuple(node(index, _pods(index)) for index in range(size))


def _pods(index: int) -> tuple[Hold, ...]:
    """Two flagship replicas of four GPUs each, or four of flash."""
    gpus, count = (1, 4) if index % NODES_PER_OBJECT == NODES_PER_OBJECT - 1 else (4, 2)
    names = (f"object-{index // NODES_PER_OBJECT}-{index}-{number}" for number in range(count))
    return tuple(Hold(GPU, gpus, "ml", name, name) for name in names)


def waiting(nodes: tuple[Node, ...], count: int) -> tuple[Claim, ...]:
    """What so many objects claim that are older than the one that is planned."""
    known = [plan(observe("w", tiers, nodes, NOW - 1), NOW, Defaults()).claims for tiers in OTHERS]
    return tuple(
        replace(claim, rank=replace(claim.rank, name=f"waiting-{number}"))
        for number, claims in enumerate(islice(cycle(known), count))
        for claim in claims
    )


def observe(
    name: str, tiers: Mapping[str, Any], nodes: tuple[Node, ...], created_at: float
) -> Observed:
    """A new object on these nodes."""
    raw = {"metadata": {"name": name, "namespace": "ml"}, "spec": {"tiers": tiers}}
    deployment = GLMDeployment.parse(raw)
    return Observed(deployment, f"uid-{name}", 1, nodes=nodes, created_at=created_at)


def table(measured: list[Point]) -> str:
    """The points as a Markdown table."""
    head = [
        "| nodes | GPUs | other objects | of them waiting | alone, CPU ms | beside them, CPU ms |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rows = [
        f"| {one.nodes:,} | {one.nodes * GPUS_PER_NODE:,} | {one.objects:,} | {one.waiting} |"
        f" {one.alone:.1f} | {one.shared:.1f} |"
        for one in measured
    ]
    return "\n".join([*head, *rows])


def chart(measured: list[Point]) -> str:
    """The points as an SVG document."""
    axes = Axes(
        title="CPU time of one object's plan; the dashed line is the bar of 100 ms",
        horizontal="nodes of eight GPUs",
        xs=(10, 100, 1_000, 5_000),
        ys=(1, 3, 10, 30, 100, 300),
        bar=100,
    )
    shared = Line("beside 1 object for 5 nodes, up to 50 of them waiting", _of(measured, "shared"))
    return draw(axes, [shared, Line("alone on empty nodes", _of(measured, "alone"))])


def _of(measured: list[Point], series: str) -> list[tuple[float, float]]:
    return [(one.nodes, getattr(one, series)) for one in measured]
