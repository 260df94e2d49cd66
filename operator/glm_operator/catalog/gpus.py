"""GPUs as data: memory and capability by product. Labels of the node come first.

Labels are those of NVIDIA's GPU feature discovery and of AMD's node labeller. To add a GPU, add a
row to `GPUS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 1 << 20

NVIDIA_RESOURCE = "nvidia.com/gpu"
LABEL_PRODUCT = "nvidia.com/gpu.product"
LABEL_MEMORY = "nvidia.com/gpu.memory"
"""Memory of one GPU in MiB, as nvidia-smi reports it."""
LABEL_MAJOR = "nvidia.com/gpu.compute.major"
LABEL_MINOR = "nvidia.com/gpu.compute.minor"

AMD_RESOURCE = "amd.com/gpu"
AMD_PRODUCT = "amd.com/gpu.product-name"
AMD_MEMORY = "amd.com/gpu.vram"
"""Memory of one GPU in whole GiB with the letter G, such as 192G."""
AMD_PARTITION = "amd.com/gpu.compute-memory-partition"
"""How each GPU is cut, such as spx_nps1 (whole) or cpx_nps4."""
AMD_WHOLE = "spx"

BF16_CAPABILITY = (8, 0)
"""First compute capability with bfloat16, in which the models compute (vLLM refuses it below)."""
FP8_CAPABILITY = (8, 9)
"""First compute capability with units for FP8 (Ada)."""
FP8_CAPABILITY_AMD = (9, 4)
"""The same of AMD: gfx942, the MI300 series."""
SLICE = "-MIG-"
"""In the product label of a node whose GPUs are cut into slices, each with a part of the memory."""
SLICE_RESOURCE = "/mig-"
"""In the name of a resource that counts slices of one kind, such as nvidia.com/mig-1g.10gb."""
SHARED = "-SHARED"
"""Ends the product label of a node that offers each GPU several times."""
SHARED_RESOURCE = ".shared"
"""Ends the resource's name instead where the device plugin renames it (`renameByDefault`)."""
SHARING = ("time-slicing", "mps")
"""Values of the label `<resource>.sharing-strategy` that mean several pods on one GPU."""
UNNAMED_SLICE = "slice"
"""The product of a slice that no label names."""
UNKNOWN = (0, 0)
"""Compute capability of a GPU that neither labels nor catalogue tell."""


@dataclass(frozen=True, slots=True)
class GPU:
    """One kind of GPU."""

    product: str
    """Value of the product label, or the prefix of it that a row of the catalogue stands for."""
    memory_mib: int
    """Memory in MiB, as the driver's own tool reports it."""
    capability: tuple[int, int]
    """NVIDIA's compute capability; of AMD the first two digits of the architecture, gfx942."""
    name: str = ""
    """How people write it in a node's shape, such as H100-80GB; empty where labels tell it."""
    resource: str = "nvidia.com/gpu"
    """The extended resource that whole GPUs of this kind are usually offered as."""
    label: str = ""
    """A whole product label, where the prefix is none."""
    cut: str = ""
    """How each GPU is cut into parts; empty: it is whole."""

    @property
    def kind(self) -> str:
        """The name without its memory, such as H100."""
        return self.name.rpartition("-")[0]

    @property
    def memory_bytes(self) -> int:
        """What a program sees: the driver keeps 512 MiB, or half a percent where larger."""
        kept = max(512, self.memory_mib // 200)
        return (self.memory_mib - kept) * MIB

    @property
    def is_amd(self) -> bool:
        """Whether it is programmed with ROCm."""
        return self.resource == AMD_RESOURCE

    @property
    def is_slice(self) -> bool:
        """Whether it is a part of a GPU, which no engine can join with another part."""
        return SLICE in self.product or self.product.startswith(UNNAMED_SLICE)

    @property
    def has_fp8(self) -> bool:
        """Whether it computes in FP8; one of unknown capability is taken to."""
        least = FP8_CAPABILITY_AMD if self.is_amd else FP8_CAPABILITY
        return self.capability == UNKNOWN or self.capability >= least

    @property
    def refusal(self) -> str:
        """Why the models cannot run on it, or an empty string."""
        if self.product.endswith(SHARED):
            return f"{self.product} offers each GPU several times, and an engine needs all of it"
        if self.cut:
            return f"{self.product} is cut into parts ({self.cut}), and an engine needs whole GPUs"
        if self.is_amd or self.capability == UNKNOWN or self.capability >= BF16_CAPABILITY:
            return ""
        major, minor = self.capability
        return f"{self.product} has compute capability {major}.{minor}, and bfloat16 needs 8.0"


def _amd(product: str, memory_mib: int, capability: tuple[int, int], name: str) -> GPU:
    return GPU(product, memory_mib, capability, name, AMD_RESOURCE, f"{product}_OAM")


def _nvidia(
    product: str, memory_mib: int, capability: tuple[int, int], name: str, rest: str = ""
) -> GPU:
    return GPU(product, memory_mib, capability, name, label=product + rest)


GPUS = (
    _nvidia("NVIDIA-GB200", 189_471, (10, 0), "GB200-186GB"),
    _nvidia("NVIDIA-B200", 183_359, (10, 0), "B200-180GB"),
    _nvidia("NVIDIA-H200", 143_771, (9, 0), "H200-141GB"),
    _nvidia("NVIDIA-H100-NVL", 95_830, (9, 0), "H100NVL-94GB"),
    _nvidia("NVIDIA-H100", 81_559, (9, 0), "H100-80GB", "-80GB-HBM3"),
    _nvidia("NVIDIA-H20", 97_871, (9, 0), "H20-96GB"),
    _nvidia("NVIDIA-A100-SXM4-80GB", 81_920, (8, 0), "A100-80GB"),
    _nvidia("NVIDIA-A100-80GB", 81_920, (8, 0), "A100PCIe-80GB", "-PCIe"),
    _nvidia("NVIDIA-A100", 40_960, (8, 0), "A100-40GB", "-SXM4-40GB"),
    _nvidia("NVIDIA-RTX-PRO-6000", 97_887, (12, 0), "RTXPRO6000-96GB"),
    _nvidia("NVIDIA-RTX-6000-Ada", 49_140, (8, 9), "RTX6000Ada-48GB", "-Generation"),
    _nvidia("NVIDIA-L40S", 46_068, (8, 9), "L40S-48GB"),
    _nvidia("NVIDIA-L40", 46_068, (8, 9), "L40-48GB"),
    _nvidia("NVIDIA-L4", 23_034, (8, 9), "L4-24GB"),
    _nvidia("NVIDIA-A40", 46_068, (8, 6), "A40-48GB"),
    _nvidia("NVIDIA-A10", 23_028, (8, 6), "A10-24GB"),
    _nvidia("NVIDIA-GeForce-RTX-5090", 32_607, (12, 0), "RTX5090-32GB"),
    _nvidia("NVIDIA-GeForce-RTX-4090", 24_564, (8, 9), "RTX4090-24GB"),
    _nvidia("NVIDIA-GeForce-RTX-3090", 24_576, (8, 6), "RTX3090-24GB"),
    _nvidia("Tesla-T4", 15_360, (7, 5), "T4-16GB"),
    _amd("AMD_Instinct_MI355X", 294_896, (9, 5), "MI355X-288GB"),
    _amd("AMD_Instinct_MI325", 262_128, (9, 4), "MI325X-256GB"),
    _amd("AMD_Instinct_MI300X", 196_592, (9, 4), "MI300X-192GB"),
    _amd("AMD_Instinct_MI210", 65_520, (9, 0), "MI210-64GB"),
)
"""Known products; of two prefixes that match, the longer counts."""


def known(product: str) -> GPU | None:
    """The catalogue's row for a product label."""
    rows = [row for row in GPUS if product.startswith(row.product)]
    return max(rows, key=lambda row: len(row.product), default=None)


def named(name: str) -> GPU | None:
    """The catalogue's row that people write like this, such as H100-80GB; case does not matter."""
    return next((row for row in GPUS if row.name.lower() == name.lower()), None)


def labels_of(gpu: GPU) -> dict[str, str]:
    """The labels that tell a row of the catalogue, as a node with such GPUs carries them."""
    if gpu.is_amd:
        return {AMD_PRODUCT: gpu.label, AMD_PARTITION: f"{AMD_WHOLE}_nps1"}
    major, minor = gpu.capability
    return {
        LABEL_PRODUCT: gpu.label,
        LABEL_MEMORY: str(gpu.memory_mib),
        LABEL_MAJOR: str(major),
        LABEL_MINOR: str(minor),
    }


def of_labels(labels: Mapping[str, str], resource: str) -> GPU | None:
    """What one unit of `resource` is on a node; None where nothing tells its memory.

    A node that offers whole GPUs and slices side by side (the mixed strategy of NVIDIA's device
    plugin) has labels of its own for each kind of slice: `<resource>.memory`, `<resource>.product`.
    """
    if resource.startswith("amd.com/"):
        return _of_amd(labels, resource)
    sliced = SLICE_RESOURCE in resource
    product, mebibytes = told(labels, resource)[:2]
    row = known(product)
    whole = row.memory_mib if row and not sliced and SLICE not in product else 0
    memory = _number(mebibytes) or whole
    if not memory:
        return None
    capability = _capability(labels) or (row.capability if row else UNKNOWN)
    return GPU(product or (UNNAMED_SLICE if sliced else "GPU"), memory, capability)


def _of_amd(labels: Mapping[str, str], resource: str) -> GPU | None:
    """The catalogue comes first: the label is rounded to whole GiB, and tells no capability."""
    product, vram, partition = told(labels, resource)
    row = known(product)
    memory = row.memory_mib if row else _number(vram.removesuffix("G")) * 1024
    if not memory:
        return None
    whole = resource == AMD_RESOURCE and partition.lower().startswith(AMD_WHOLE)
    cut = "" if whole or (resource == AMD_RESOURCE and not partition) else partition or resource
    capability = row.capability if row else UNKNOWN
    return GPU(product or "GPU", memory, capability, resource=AMD_RESOURCE, cut=cut)


def told(labels: Mapping[str, str], resource: str) -> tuple[str, str, str]:
    """Product, memory and partition of one unit of a resource as labels have them, or empty."""
    if resource.startswith("amd.com/"):
        found = (labels.get(key, "") for key in (AMD_PRODUCT, AMD_MEMORY, AMD_PARTITION))
        product, memory, partition = found
        return product, memory, partition
    product = labels.get(product_label(resource), "")
    if _is_shared(labels, resource) and not product.endswith(SHARED):
        product = f"{product or 'GPU'}{SHARED}"
    return product, labels.get(memory_label(resource), ""), ""


def _is_shared(labels: Mapping[str, str], resource: str) -> bool:
    """Whether several pods may be given the same unit of a resource.

    The product's suffix is missing where the resource is renamed, and where the feature discovery
    does not know the plugin's configuration (https://github.com/NVIDIA/k8s-device-plugin).
    """
    strategy, replicas = (labels.get(key) for key in _sharing_labels(resource))
    return strategy in SHARING or _number(replicas) > 1 or resource.endswith(SHARED_RESOURCE)


def _sharing_labels(resource: str) -> tuple[str, str]:
    prefix = _prefix(resource)
    return f"{prefix}.sharing-strategy", f"{prefix}.replicas"


def _prefix(resource: str) -> str:
    """What the keys of labels about a resource begin with: each kind of slice has its own."""
    sliced = SLICE_RESOURCE in resource
    return resource.removesuffix(SHARED_RESOURCE) if sliced else NVIDIA_RESOURCE


def telling_labels(resource: str) -> tuple[str, ...]:
    """Keys of all labels that tell what one unit of a resource is; see `of_labels`."""
    if resource.startswith("amd.com/"):
        return AMD_PRODUCT, AMD_MEMORY, AMD_PARTITION
    sharing = _sharing_labels(resource)
    return product_label(resource), memory_label(resource), LABEL_MAJOR, LABEL_MINOR, *sharing


def product_label(resource: str) -> str:
    """The label that names what one unit of a resource is."""
    if resource.startswith("amd.com/"):
        return AMD_PRODUCT
    return f"{_prefix(resource)}.product"


def memory_label(resource: str) -> str:
    """The label that tells the memory of one unit of a resource."""
    if resource.startswith("amd.com/"):
        return AMD_MEMORY
    return f"{_prefix(resource)}.memory"


def _capability(labels: Mapping[str, str]) -> tuple[int, int] | None:
    major, minor = labels.get(LABEL_MAJOR), labels.get(LABEL_MINOR)
    if not major or not major.isdecimal():
        return None
    return int(major), _number(minor)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
