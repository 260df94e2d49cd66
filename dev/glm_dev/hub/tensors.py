"""The tensors of a GLM-4.6V checkpoint, from its config.json: names, formats and shapes.

The names are those of the published checkpoints of the family, as vLLM's and transformers' model
classes (glm4v, glm4v_moe) load them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BYTES = {"BF16": 2, "F32": 4, "F16": 2, "F8_E4M3": 1, "I32": 4}
"""Format -> bytes of one number."""
INT4_PER_WORD = 8
FORMAT = "BF16"


@dataclass(frozen=True, slots=True)
class Spec:
    """One tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """How long it is."""
        return math.prod(self.shape) * BYTES[self.dtype]


def checkpoint_tensors(config: Mapping[str, Any]) -> list[Spec]:
    """All tensors in the order in which they are stored."""
    text = config["text_config"]
    hidden, words = text["hidden_size"], text["vocab_size"]
    found = [Spec("model.language_model.embed_tokens.weight", FORMAT, (words, hidden))]
    for layer in range(text["num_hidden_layers"]):
        found += _layer(config, layer)
    found.append(Spec("model.language_model.norm.weight", FORMAT, (hidden,)))
    found += _vision(config["vision_config"])
    found.append(Spec("lm_head.weight", FORMAT, (words, hidden)))
    return found


def _layer(config: Mapping[str, Any], number: int) -> Iterator[Spec]:
    text = config["text_config"]
    prefix = f"model.language_model.layers.{number}"
    yield from _attention(config, f"{prefix}.self_attn")
    experts = "n_routed_experts" in text
    if experts and number >= text["first_k_dense_replace"]:
        yield from _experts(config, f"{prefix}.mlp")
    else:
        yield from _dense(config, f"{prefix}.mlp", merged=not experts)
    norms = ("input_layernorm", "post_attention_layernorm")
    more = () if experts else ("post_self_attn_layernorm", "post_mlp_layernorm")
    for name in (*norms, *more):
        yield Spec(f"{prefix}.{name}.weight", FORMAT, (text["hidden_size"],))


def _attention(config: Mapping[str, Any], prefix: str) -> Iterator[Spec]:
    text = config["text_config"]
    hidden, size = text["hidden_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * size, text["num_key_value_heads"] * size
    for name, rows in (("q", queries), ("k", keys), ("v", keys)):
        yield from _linear(config, f"{prefix}.{name}_proj", rows, hidden)
        yield Spec(f"{prefix}.{name}_proj.bias", FORMAT, (rows,))
    yield from _linear(config, f"{prefix}.o_proj", hidden, queries)


def _experts(config: Mapping[str, Any], prefix: str) -> Iterator[Spec]:
    text = config["text_config"]
    hidden, number = text["hidden_size"], text["n_routed_experts"]
    width = text["moe_intermediate_size"]
    for expert in range(number):
        yield from _mlp(config, f"{prefix}.experts.{expert}", hidden, width)
    shared = width * text["n_shared_experts"]
    yield from _mlp(config, f"{prefix}.shared_experts", hidden, shared)
    yield Spec(f"{prefix}.gate.weight", FORMAT, (number, hidden))
    yield Spec(f"{prefix}.gate.e_score_correction_bias", "F32", (number,))


def _dense(config: Mapping[str, Any], prefix: str, *, merged: bool) -> Iterator[Spec]:
    """Glm4 keeps gate and up in one matrix; Glm4Moe does not."""
    hidden, width = config["text_config"]["hidden_size"], config["text_config"]["intermediate_size"]
    if not merged:
        yield from _mlp(config, prefix, hidden, width)
        return
    yield from _linear(config, f"{prefix}.gate_up_proj", 2 * width, hidden)
    yield from _linear(config, f"{prefix}.down_proj", hidden, width)


def _mlp(config: Mapping[str, Any], prefix: str, hidden: int, width: int) -> Iterator[Spec]:
    yield from _linear(config, f"{prefix}.gate_proj", width, hidden)
    yield from _linear(config, f"{prefix}.up_proj", width, hidden)
    yield from _linear(config, f"{prefix}.down_proj", hidden, width)


def _linear(config: Mapping[str, Any], module: str, rows: int, columns: int) -> Iterator[Spec]:
    """One layer in the format of the checkpoint."""
    section = config.get("quantization_config") or {}
    method = section.get("quant_method")
    if method == "compressed-tensors":
        yield Spec(f"{module}.weight", "F8_E4M3", (rows, columns))
        yield Spec(f"{module}.weight_scale", FORMAT, (rows, 1))
    elif method == "awq":
        groups, packed = columns // section["group_size"], rows // INT4_PER_WORD
        yield Spec(f"{module}.qweight", "I32", (columns, packed))
        yield Spec(f"{module}.qzeros", "I32", (groups, packed))
        yield Spec(f"{module}.scales", "F16", (groups, rows))
    else:
        yield Spec(f"{module}.weight", FORMAT, (rows, columns))


def _vision(vision: Mapping[str, Any]) -> Iterator[Spec]:
    """The vision tower, which stays as it is in every checkpoint."""
    hidden, out, patch = vision["hidden_size"], vision["out_hidden_size"], vision["patch_size"]
    prefix = "model.visual"
    patches = (hidden, 3, vision["temporal_patch_size"], patch, patch)
    yield Spec(f"{prefix}.patch_embed.proj.weight", FORMAT, patches)
    yield Spec(f"{prefix}.patch_embed.proj.bias", FORMAT, (hidden,))
    positions = (vision["image_size"] // patch) ** 2
    yield Spec(f"{prefix}.embeddings.position_embedding.weight", FORMAT, (positions, hidden))
    for name in ("post_conv_layernorm", "post_layernorm"):
        yield Spec(f"{prefix}.{name}.weight", FORMAT, (hidden,))
    for block in range(vision["depth"]):
        yield from _block(f"{prefix}.blocks.{block}", hidden, out)
    yield from _merger(vision, f"{prefix}.merger")
    merge = vision["spatial_merge_size"]
    yield Spec(f"{prefix}.downsample.weight", FORMAT, (out, hidden, merge, merge))
    yield Spec(f"{prefix}.downsample.bias", FORMAT, (out,))


def _block(prefix: str, hidden: int, width: int) -> Iterator[Spec]:
    yield from _mlp({}, f"{prefix}.mlp", hidden, width)
    yield Spec(f"{prefix}.attn.qkv.weight", FORMAT, (3 * hidden, hidden))
    yield Spec(f"{prefix}.attn.proj.weight", FORMAT, (hidden, hidden))
    for name in ("norm1", "norm2"):
        yield Spec(f"{prefix}.{name}.weight", FORMAT, (hidden,))


def _merger(vision: Mapping[str, Any], prefix: str) -> Iterator[Spec]:
    out = vision["out_hidden_size"]
    yield Spec(f"{prefix}.proj.weight", FORMAT, (out, out))
    yield from _mlp({}, prefix, out, vision["intermediate_size"])
    for name in ("weight", "bias"):
        yield Spec(f"{prefix}.post_projection_norm.{name}", FORMAT, (out,))
