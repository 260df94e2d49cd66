"""What a checkpoint is, from its config.json and the headers of its files. Version 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from glm_serving.weights.errors import unreadable
from glm_serving.weights.modules import count_modules
from glm_serving.weights.quantization import UNUSABLE, describe
from glm_serving.weights.safetensors import Header, Tensor

VERSION = 1
CONFIG = "config.json"
LARGEST = 1 << 53
"""What every reader of JSON can hold."""
LONGEST_NAME = 64
TEXT_KEYS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
    "first_k_dense_replace",
    "vocab_size",
    "max_position_embeddings",
    "num_nextn_predict_layers",
    "use_qk_norm",
    "tie_word_embeddings",
)
VISION_KEYS = (
    "depth",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "out_hidden_size",
    "patch_size",
)


def parse_config(text: bytes) -> dict[str, Any]:
    """config.json as an object with an architecture.

    Raises:
        WeightsError: CheckpointUnreadable.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(CONFIG, "it is no JSON") from error
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise unreadable(CONFIG, "it names no model class under `architectures`")
    return config  # type: ignore[no-any-return]


def checkpoint_facts(
    config: Mapping[str, Any],
    headers: Mapping[str, Header],
    sizes: Mapping[str, int],
    commit: str = "",
) -> dict[str, Any]:
    """The facts of a checkpoint of these files (name -> bytes), of which `headers` are the shards.

    Raises:
        WeightsError: CheckpointUnreadable, config.json is not built as it should be.
    """
    text = _section(config, "text_config") or config
    vision = _section(config, "vision_config")
    tensors = {name: t for header in headers.values() for name, t in header.tensors.items()}
    return {
        "version": VERSION,
        "commit": commit,
        "architecture": config["architectures"][0][:LONGEST_NAME],
        "text": _text(config, text),
        "vision": _numbers(vision, VISION_KEYS) if vision else None,
        "quantization": _quantization(config, text),
        "modules": count_modules(tensors, _layers(text)),
        "files": len(sizes),
        "shards": len(headers),
        "bytes": sum(sizes.values()),
        "weightBytes": _weight_bytes(tensors),
        "largestFileBytes": max(sizes.values(), default=0),
    }


def _section(config: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = config.get(key)
    if value is not None and not isinstance(value, dict):
        raise unreadable(CONFIG, f"`{key}` is no object")
    return value


def _text(config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """Dimensions of the language model; tying stands outside of its section in some files."""
    tied = {key: config[key] for key in ("tie_word_embeddings",) if key in config}
    return _numbers({**tied, **text}, TEXT_KEYS)


def _numbers(section: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """The values of those keys that are there, in the order of `keys`."""
    found = {key: section[key] for key in keys if section.get(key) is not None}
    for key, value in found.items():
        if not isinstance(value, int) or not 0 <= value < LARGEST:
            shown = json.dumps(value)[:LONGEST_NAME]
            raise unreadable(CONFIG, f"`{key}` is {shown}, and should be a whole number")
    return found


def _quantization(config: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any] | None:
    key = "quantization_config"
    section = _section(config, key) or _section(text, key)
    if not section:
        return None
    try:
        return describe(section)
    except UNUSABLE as error:
        raise unreadable(CONFIG, f"`{key}` is not built as its method demands") from error


def _layers(text: Mapping[str, Any]) -> int:
    return int(text.get("num_hidden_layers") or 0)


def _weight_bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.bytes for tensor in tensors.values())
