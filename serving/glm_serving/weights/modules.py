"""Counts the linear layers of a model by kind, and those of them that are stored quantised."""

from __future__ import annotations

import re
from collections.abc import Mapping

from glm_serving.weights.safetensors import Tensor

CLASSES: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in (
        ("vision", r"(^|\.)visual\."),
        ("experts", r"\.experts\."),
        ("shared_experts", r"\.shared_experts\."),
        ("router", r"\.mlp\.gate$"),
        ("attention", r"\.self_attn\.\w+_proj$"),
        ("dense", r"\.mlp\.\w+_proj$"),
        ("embedding", r"(^|\.)embed_tokens$"),
        ("lm_head", r"(^|\.)lm_head$"),
    )
}
"""Kind of layer -> how its name is recognised; the first that fits counts."""
STORED = ("weight", "weight_packed", "qweight")
"""Names of the tensor that makes a module a layer."""
SCALED = ("weight_scale", "weight_scale_inv", "weight_packed", "qweight", "scales")
"""Names of tensors that only a quantised layer has."""
_FUSED = re.compile(r"\.experts\.(gate_up_proj|down_proj)$")
"""Experts of one layer in one tensor of three dimensions."""
_LAYER = re.compile(r"\.layers\.(\d+)\.")


def count_modules(tensors: Mapping[str, Tensor], layers: int) -> dict[str, list[int]]:
    """Kind -> [how many, how many of them quantised].

    `layers` is how many of the language model are served: those behind them are for multi-token
    prediction, and the engine does not load them. 0 counts all.
    """
    counts = {name: [0, 0] for name in CLASSES}
    for module, tensor in _linear(tensors).items():
        kind = _kind(module)
        if kind is not None and not _beyond(module, layers):
            number = tensor.shape[0] if _FUSED.search(module) else 1
            counts[kind][0] += number
            counts[kind][1] += number if _quantised(module, tensors) else 0
    return counts


def _linear(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Module -> the tensor of its weight, for what multiplies by a matrix."""
    found = {}
    for name, tensor in tensors.items():
        module, _, last = name.rpartition(".")
        if _FUSED.search(name) and len(tensor.shape) == 3:
            found[name] = tensor
        elif last in STORED and len(tensor.shape) == 2 and "position_embedding" not in module:
            found[module] = tensor
    return found


def _kind(module: str) -> str | None:
    return next((name for name, pattern in CLASSES.items() if pattern.search(module)), None)


def _beyond(module: str, layers: int) -> bool:
    found = _LAYER.search(module)
    return bool(layers and found and int(found[1]) >= layers)


def _quantised(module: str, tensors: Mapping[str, Tensor]) -> bool:
    return any(f"{module}.{name}" in tensors for name in SCALED) or f"{module}_scale" in tensors
