"""The quantisation section of config.json, in one form for all methods.

Sources of the keys: transformers' quantizers (utils/quantization_config.py) and the
compressed-tensors format (quantization/quant_scheme.py of that project).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_PATTERNS = 16
"""Of the list of layers that are left as they are; the facts are short."""
LONGEST_PATTERN = 96
LONGEST_METHOD = 32
LARGEST_GROUP = 1 << 20
UNUSABLE = (ValueError, TypeError, KeyError, AttributeError, StopIteration, OverflowError)
IGNORED_KEYS = ("ignore", "modules_to_not_convert", "ignored_layers")


def describe(section: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a `quantization_config`.

    Raises:
        one of UNUSABLE: it is not built as its method demands.
    """
    method = str(section.get("quant_method", ""))
    scheme = _compressed(section) if method == "compressed-tensors" else _plain(section, method)
    ignored = _ignored(section)
    shown = [pattern for pattern in ignored if len(pattern) <= LONGEST_PATTERN][:MOST_PATTERNS]
    return {"method": method[:LONGEST_METHOD], **scheme, "ignore": shown, "ignored": len(ignored)}


def _ignored(section: Mapping[str, Any]) -> list[str]:
    return [str(item) for key in IGNORED_KEYS for item in section.get(key) or ()]


def _compressed(section: Mapping[str, Any]) -> dict[str, Any]:
    """Of the first group of layers: vLLM serves GLM checkpoints with one."""
    group = next(iter(section["config_groups"].values()))
    weights, inputs = group["weights"], group.get("input_activations")
    blocks = weights.get("block_structure") or [0]
    return {
        "kind": _kind(int(weights["num_bits"]), weights.get("type") == "float"),
        "groupSize": _group(weights.get("group_size") or blocks[-1]),
        "activations": _activations(inputs),
    }


def _activations(inputs: Mapping[str, Any] | None) -> str:
    if inputs is None:
        return "none"
    return "dynamic" if inputs.get("dynamic") else "static"


def _plain(section: Mapping[str, Any], method: str) -> dict[str, Any]:
    """FP8 as transformers and vLLM write it, AWQ, GPTQ, and whatever comes."""
    if method in ("fp8", "fbgemm_fp8"):
        blocks = section.get("weight_block_size") or [0]
        static = section.get("activation_scheme") == "static"
        scheme = "static" if static else "dynamic"
        return {"kind": "FP8", "groupSize": _group(blocks[-1]), "activations": scheme}
    bits = int(section.get("bits") or section.get("w_bit") or 0)
    size = section.get("group_size") or section.get("q_group_size") or 0
    return {"kind": _kind(bits, False), "groupSize": _group(size), "activations": "none"}


def _kind(bits: int, is_float: bool) -> str:
    if is_float:
        return "FP8" if bits == 8 else "other"
    return "INT4" if bits == 4 else "other"


def _group(size: Any) -> int:
    """Weights that share a scale; 0 where a whole channel or tensor does (-1 in some formats)."""
    return min(max(0, int(size)), LARGEST_GROUP)
