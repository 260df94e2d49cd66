"""How long one object's plan takes as the cluster grows."""

from __future__ import annotations

import statistics
import time

from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.observed import Defaults, Node, Observed
from glm_operator.plan.planner import plan

SIZES = (10, 100, 1_000, 5_000)
GPUS_PER_NODE = 8
NOW = 1_700_000_000.0
LABELS = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}
OBJECT = {
    "metadata": {"name": "vision", "namespace": "ml"},
    "spec": {
        "tiers": {
            "flagship": {
                "model": {"preset": "GLM-4.6V", "uri": "hf://zai-org/f", "quantization": "FP8"},
                "replicas": 2,
            },
            "flash": {
                "model": {
                    "preset": "GLM-4.6V-Flash",
                    "uri": "hf://zai-org/s",
                    "quantization": "BF16",
                },
                "scaling": {"mode": "Off"},
                "replicas": 8,
            },
        }
    },
}


def measure(repeats: int) -> str:
    """A Markdown table: nodes, and the median CPU milliseconds of one plan."""
    rows = [
        f"| {size:,} | {size * GPUS_PER_NODE:,} | {cost(size, repeats):.1f} |" for size in SIZES
    ]
    head = ["| nodes | GPUs | one plan, CPU ms |", "|---:|---:|---:|"]
    return "\n".join([*head, *rows])


def cost(size: int, repeats: int) -> float:
    """Median CPU milliseconds of planning two flagship and eight flash replicas."""
    observed = _observed(size)
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        plan(observed, NOW, Defaults())
        spent.append((time.process_time() - started) * 1000)
    return statistics.median(spent)


def _observed(size: int) -> Observed:
    nodes = tuple(
        Node(f"node-{index:05}", LABELS, allocatable={"nvidia.com/gpu": GPUS_PER_NODE})
        for index in range(size)
    )
    return Observed(GLMDeployment.parse(OBJECT), "uid", 1, nodes=nodes)
