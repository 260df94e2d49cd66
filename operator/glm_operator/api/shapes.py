"""How a node's shape is written: the number of its GPUs and their name, such as 8xH100-80GB."""

from __future__ import annotations

NVIDIA = (
    "GB200-186GB",
    "B200-180GB",
    "H200-141GB",
    "H100NVL-94GB",
    "H100-80GB",
    "H20-96GB",
    "A100-80GB",
    "A100PCIe-80GB",
    "A100-40GB",
    "RTXPRO6000-96GB",
    "RTX6000Ada-48GB",
    "L40S-48GB",
    "L40-48GB",
    "L4-24GB",
    "A40-48GB",
    "A10-24GB",
    "RTX5090-32GB",
    "RTX4090-24GB",
    "RTX3090-24GB",
    "T4-16GB",
)
AMD = ("MI355X-288GB", "MI325X-256GB", "MI300X-192GB", "MI210-64GB")
"""Names of GPUs; the catalogue has the same, and their figures."""
_COUNT = "([1-9]|[1-5][0-9]|6[0-4])"
SHAPE = f"^({_COUNT}x({'|'.join((*NVIDIA, *AMD))}))?$"
"""The shape of a node, or empty."""
AMD_SHAPE = f"^[0-9]+x({'|'.join(AMD)})$"


def parse(shape: str) -> tuple[int, str]:
    """GPUs of a node and their name. Raises ValueError where the text is no shape."""
    count, found, name = shape.partition("x")
    if not found or not count.isdecimal():
        raise ValueError(f"{shape!r} is no shape of a node: write it as 8xH100-80GB")
    return int(count), name
