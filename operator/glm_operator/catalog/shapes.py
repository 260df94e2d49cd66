"""GPUs by the names that people and price lists use, such as H100-80GB, as data.

A shape's name stands for the product label of its nodes; memory and compute capability come from
the row of `gpus.GPUS` that the label leads to. To add a name, add a row to `OFFERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glm_operator.catalog.gpus import LABEL_PRODUCT

NVIDIA = "nvidia.com/gpu"
AMD = "amd.com/gpu"
LABEL_AMD_PRODUCT = "amd.com/gpu.product-name"
"""Product of a node's GPUs, as AMD's node labeller has it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One GPU as it is sold."""

    product: str
    """As in price lists, without blanks."""
    gigabytes: int
    """Memory as sold; what the driver reports is in the catalogue."""
    label: str
    """Value of the product label on a node that has it."""
    resource: str = NVIDIA
    """Extended resource that counts it."""

    @property
    def name(self) -> str:
        """As the shape of a node has it, for example H100-80GB."""
        return f"{self.product}-{self.gigabytes}GB"

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels by which a node tells that it has this GPU."""
        key = LABEL_AMD_PRODUCT if self.resource == AMD else LABEL_PRODUCT
        return {key: self.label}


OFFERS = (
    Offer("B200", 180, "NVIDIA-B200"),
    Offer("H200", 141, "NVIDIA-H200"),
    Offer("H100", 80, "NVIDIA-H100-80GB-HBM3"),
    Offer("H100NVL", 94, "NVIDIA-H100-NVL"),
    Offer("H20", 96, "NVIDIA-H20"),
    Offer("A100", 80, "NVIDIA-A100-SXM4-80GB"),
    Offer("A100", 40, "NVIDIA-A100-SXM4-40GB"),
    Offer("RTXPRO6000", 96, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"),
    Offer("RTX6000Ada", 48, "NVIDIA-RTX-6000-Ada-Generation"),
    Offer("L40S", 48, "NVIDIA-L40S"),
    Offer("L40", 48, "NVIDIA-L40"),
    Offer("A40", 48, "NVIDIA-A40"),
    Offer("RTX5090", 32, "NVIDIA-GeForce-RTX-5090"),
    Offer("RTX4090", 24, "NVIDIA-GeForce-RTX-4090"),
    Offer("RTX3090", 24, "NVIDIA-GeForce-RTX-3090"),
    Offer("L4", 24, "NVIDIA-L4"),
    Offer("A10", 24, "NVIDIA-A10"),
    Offer("T4", 16, "Tesla-T4"),
    Offer("MI300X", 192, "AMD_Instinct_MI300X_OAM", AMD),
)
"""Every GPU that the shape of a node may name."""


def offers_of(product: str) -> tuple[Offer, ...]:
    """The offers of a product, whatever their memory; case does not matter."""
    return tuple(one for one in OFFERS if one.product.lower() == product.lower())
