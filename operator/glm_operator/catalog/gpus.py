"""GPUs as data: memory and compute capability by product. Labels of the node come first.

Labels are those of NVIDIA's GPU feature discovery. To add a GPU, add a row to `GPUS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 << 20

LABEL_PRODUCT = "nvidia.com/gpu.product"
LABEL_MEMORY = "nvidia.com/gpu.memory"
"""Memory of one GPU in MiB, as nvidia-smi reports it."""
LABEL_MAJOR = "nvidia.com/gpu.compute.major"
LABEL_MINOR = "nvidia.com/gpu.compute.minor"

BF16_CAPABILITY = (8, 0)
"""First compute capability with bfloat16, in which the models compute (vLLM refuses it below)."""
SLICE = "-MIG-"
"""In the product label of a node whose GPUs are cut into slices, each with a part of the memory."""
SLICE_RESOURCE = "/mig-"
"""In the name of a resource that counts slices of one kind, such as nvidia.com/mig-1g.10gb."""
SHARED = "-SHARED"
"""Ends the product label of a node that offers each GPU several times."""
UNKNOWN = (0, 0)
"""Compute capability of a GPU that neither labels nor catalogue tell."""


@dataclass(frozen=True, slots=True)
class GPU:
    """One kind of GPU."""

    product: str
    """Value of the product label, or the prefix of it that a row of the catalogue stands for."""
    memory_mib: int
    """Memory in MiB, as nvidia-smi reports it."""
    capability: tuple[int, int]

    @property
    def memory_bytes(self) -> int:
        """What a CUDA program sees: the driver keeps 512 MiB, or half a percent where larger."""
        kept = max(512, self.memory_mib // 200)
        return (self.memory_mib - kept) * MIB

    @property
    def refusal(self) -> str:
        """Why the models cannot run on it, or an empty string."""
        if self.product.endswith(SHARED):
            return f"{self.product} offers each GPU several times, and an engine needs all of it"
        if self.capability == UNKNOWN or self.capability >= BF16_CAPABILITY:
            return ""
        major, minor = self.capability
        return f"{self.product} has compute capability {major}.{minor}, and bfloat16 needs 8.0"


GPUS = (
    GPU("NVIDIA-B200", 183_359, (10, 0)),
    GPU("NVIDIA-H200", 143_771, (9, 0)),
    GPU("NVIDIA-H100-NVL", 95_830, (9, 0)),
    GPU("NVIDIA-H100", 81_559, (9, 0)),
    GPU("NVIDIA-H20", 97_871, (9, 0)),
    GPU("NVIDIA-A100-SXM4-80GB", 81_920, (8, 0)),
    GPU("NVIDIA-A100-80GB", 81_920, (8, 0)),
    GPU("NVIDIA-A100", 40_960, (8, 0)),
    GPU("NVIDIA-RTX-PRO-6000", 97_887, (12, 0)),
    GPU("NVIDIA-RTX-6000-Ada", 49_140, (8, 9)),
    GPU("NVIDIA-L40S", 46_068, (8, 9)),
    GPU("NVIDIA-L40", 46_068, (8, 9)),
    GPU("NVIDIA-L4", 23_034, (8, 9)),
    GPU("NVIDIA-A40", 46_068, (8, 6)),
    GPU("NVIDIA-A10", 23_028, (8, 6)),
    GPU("NVIDIA-GeForce-RTX-5090", 32_607, (12, 0)),
    GPU("NVIDIA-GeForce-RTX-4090", 24_564, (8, 9)),
    GPU("NVIDIA-GeForce-RTX-3090", 24_576, (8, 6)),
    GPU("Tesla-T4", 15_360, (7, 5)),
)
"""Known products; of two prefixes that match, the longer counts."""


def known(product: str) -> GPU | None:
    """The catalogue's row for a product label."""
    rows = [row for row in GPUS if product.startswith(row.product)]
    return max(rows, key=lambda row: len(row.product), default=None)


def of_labels(labels: Mapping[str, str], resource: str) -> GPU | None:
    """What one unit of `resource` is on a node; None where nothing tells its memory.

    A node that offers whole GPUs and slices side by side (the mixed strategy of NVIDIA's device
    plugin) has labels of its own for each kind of slice: `<resource>.memory`, `<resource>.product`.
    """
    sliced = SLICE_RESOURCE in resource
    product, mebibytes = told(labels, resource)
    row = known(product)
    whole = row.memory_mib if row and not sliced and SLICE not in product else 0
    memory = _number(mebibytes) or whole
    if not memory:
        return None
    capability = _capability(labels) or (row.capability if row else UNKNOWN)
    return GPU(product or ("slice" if sliced else "GPU"), memory, capability)


def told(labels: Mapping[str, str], resource: str) -> tuple[str, str]:
    """Product and memory of one unit of a resource as the node's labels have them, or empty."""
    product = f"{resource}.product" if SLICE_RESOURCE in resource else LABEL_PRODUCT
    return labels.get(product, ""), labels.get(memory_label(resource), "")


def memory_label(resource: str) -> str:
    """The label that tells the memory of one unit of a resource, in MiB."""
    return f"{resource}.memory" if SLICE_RESOURCE in resource else LABEL_MEMORY


def _capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    major, minor = labels.get(LABEL_MAJOR), labels.get(LABEL_MINOR)
    if not major or not major.isdecimal():
        return None
    return int(major), _number(minor)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
