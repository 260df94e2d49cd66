"""What a node pretends to be: GPUs as GPU feature discovery labels them, and machine sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from typing_extensions import override

from glm_dev.cluster.errors import ClusterError

NO_GPU = "CPU"
"""The shape of a node without GPUs, for example `1xCPU`."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU model, and the share of a machine that clouds sell with it.

    `product` and `memory_mib` are the values of the labels nvidia.com/gpu.product and
    nvidia.com/gpu.memory, which are nvidia-smi's own with blanks as dashes.
    """

    product: str
    family: str
    compute: tuple[int, int]
    memory_mib: int
    cpus: int
    memory_gib: int


GPUS = {
    "B200-180GB": Gpu("NVIDIA-B200", "blackwell", (10, 0), 183359, 24, 256),
    "H200-141GB": Gpu("NVIDIA-H200", "hopper", (9, 0), 143771, 24, 256),
    "H100-80GB": Gpu("NVIDIA-H100-80GB-HBM3", "hopper", (9, 0), 81559, 24, 256),
    "A100-80GB": Gpu("NVIDIA-A100-SXM4-80GB", "ampere", (8, 0), 81920, 12, 144),
    "A100-40GB": Gpu("NVIDIA-A100-SXM4-40GB", "ampere", (8, 0), 40960, 12, 144),
    "L40S-48GB": Gpu("NVIDIA-L40S", "ada-lovelace", (8, 9), 46068, 24, 192),
    "L4-24GB": Gpu("NVIDIA-L4", "ada-lovelace", (8, 9), 23034, 12, 48),
    "A10G-24GB": Gpu("NVIDIA-A10G", "ampere", (8, 6), 23028, 12, 48),
    "RTX4090-24GB": Gpu("NVIDIA-GeForce-RTX-4090", "ada-lovelace", (8, 9), 24564, 16, 64),
    "T4-16GB": Gpu("Tesla-T4", "turing", (7, 5), 15360, 12, 48),
}
CPU_NODE = (16, 64)
"""CPUs and GiB of a node without GPUs."""


@dataclass(frozen=True, slots=True)
class NodeShape:
    """What one node announces: GPUs of one model, CPUs, and memory in GiB."""

    gpu: str
    gpus: int
    cpus: int
    memory_gib: int

    @override
    def __str__(self) -> str:
        gpus = f"{self.gpus} x {self.gpu}" if self.gpus else "no GPU"
        return f"{gpus}, {self.cpus} CPUs, {self.memory_gib} GiB"

    def labels(self) -> dict[str, str]:
        """The labels that GPU feature discovery puts on such a node; none without GPUs."""
        if not self.gpus:
            return {}
        gpu = GPUS[self.gpu]
        return {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": gpu.product,
            "nvidia.com/gpu.memory": str(gpu.memory_mib),
            "nvidia.com/gpu.count": str(self.gpus),
            "nvidia.com/gpu.replicas": "1",
            "nvidia.com/gpu.family": gpu.family,
            "nvidia.com/gpu.compute.major": str(gpu.compute[0]),
            "nvidia.com/gpu.compute.minor": str(gpu.compute[1]),
        }


def parse_nodes(text: str, cpus: int = 0, memory_gib: int = 0) -> tuple[NodeShape, ...]:
    """The nodes of `2x8xH100-80GB,1x4xL4-24GB,1xCPU`; `none` is a control plane alone.

    `cpus` and `memory_gib` replace the sizes of every node; 0 keeps those of the table.

    Raises:
        ClusterError: a part cannot be read or names an unknown GPU.
    """
    if text == "none":
        return ()
    nodes: list[NodeShape] = []
    for part in text.split(","):
        count, shape = _parse_part(part.strip(), text)
        sized = NodeShape(shape.gpu, shape.gpus, cpus or shape.cpus, memory_gib or shape.memory_gib)
        nodes += [sized] * count
    return tuple(nodes)


def parse_shape(text: str) -> NodeShape:
    """The shape of `8xH100-80GB` or `CPU`.

    Raises:
        ClusterError: it cannot be read or names an unknown GPU.
    """
    return _parse_part(f"1x{text}", text)[1]


def _parse_part(part: str, whole: str) -> tuple[int, NodeShape]:
    found = re.fullmatch(rf"([1-9]\d*)x(?:({NO_GPU})|([1-9]\d*)x([A-Za-z0-9-]+))", part)
    if not found:
        raise ClusterError(
            f"Cannot read {part!r} of the nodes {whole!r}: write them as NODESxGPUSxMODEL, for "
            f"example 2x8xH100-80GB,1x4xL4-24GB, or 1x{NO_GPU} for a node without GPUs."
        )
    if found[2]:
        return int(found[1]), NodeShape("", 0, *CPU_NODE)
    model, gpus = found[4], int(found[3])
    if model not in GPUS:
        raise ClusterError(f"No GPU is called {model!r}; known are {', '.join(GPUS)}.")
    gpu = GPUS[model]
    return int(found[1]), NodeShape(model, gpus, gpu.cpus * gpus, gpu.memory_gib * gpus)


def parse_memory(text: str) -> int:
    """GiB of `512Gi` or `2Ti`.

    Raises:
        ClusterError: it is neither.
    """
    found = re.fullmatch(r"([1-9]\d*)(Gi|Ti)", text)
    if not found:
        raise ClusterError(f"Cannot read the memory {text!r}: write it as 512Gi or 2Ti.")
    return int(found[1]) * (1024 if found[2] == "Ti" else 1)
