"""Clusters that offer GPUs by dynamic resource allocation instead of a device plugin.

The scheduler takes such devices for an extended resource where a DeviceClass names it
(`extendedResourceName`), but no node lists them as allocatable, and that is what is planned on.
"""

from __future__ import annotations

from glm_operator.plan.observed import Observed


def dra_driver(resource: str) -> str:
    """The driver of the vendor of an extended resource: `gpu.nvidia.com` of nvidia.com/gpu.

    NVIDIA's and AMD's drivers are called so (github.com/NVIDIA/k8s-dra-driver-gpu,
    github.com/ROCm/k8s-gpu-dra-driver).
    """
    vendor, _, _ = resource.partition("/")
    return f"gpu.{vendor}"


def drivers_to_ask_for(observed: Observed) -> frozenset[str]:
    """Drivers that may explain why no node offers what a tier asks for."""
    offered = {name for node in observed.nodes for name, count in node.allocatable.items() if count}
    asked = {tier.placement.accelerator_resource for _, tier in observed.object.spec.tiers.items()}
    return frozenset(dra_driver(resource) for resource in asked - offered)
