"""The config.json of the models we serve, in their real size and tiny.

Dimensions are those of `glm_operator.catalog.models`; the sections of quantised checkpoints are as
llm-compressor and AutoAWQ write them.
"""

from __future__ import annotations

from typing import Any

FLAGSHIP = "Glm4vMoeForConditionalGeneration"
FLASH = "Glm4vForConditionalGeneration"
UNSUPPORTED = "Glm46VForConditionalGeneration"
"""Known to transformers, and not to the engine."""
VISION_DEPTH = 24


def flagship(**changes: Any) -> dict[str, Any]:
    """GLM-4.6V; `changes` replace values of its text section."""
    text = {
        **_text(heads=96, kv_heads=8, layers=46, width=10_944),
        "moe_intermediate_size": 1_408,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
        "use_qk_norm": False,
        **changes,
    }
    return _config(FLAGSHIP, "glm4v_moe", text, _vision(10_944))


def flash(**changes: Any) -> dict[str, Any]:
    """GLM-4.6V-Flash; `changes` replace values of its text section."""
    text = {**_text(heads=32, kv_heads=2, layers=40, width=13_696), **changes}
    return _config(FLASH, "glm4v", text, _vision(13_696))


def tiny(config: dict[str, Any]) -> dict[str, Any]:
    """The same model with three layers and small matrices; a whole checkpoint is below 1 MB."""
    text = config["text_config"] | {
        "hidden_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 256,
        "vocab_size": 320,
    }
    if "n_routed_experts" in text:
        text |= {"moe_intermediate_size": 64, "n_routed_experts": 8, "num_experts_per_tok": 2}
    vision = config["vision_config"] | {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "out_hidden_size": 128,
        "intermediate_size": 256,
    }
    return {**config, "text_config": text, "vision_config": vision}


def unsupported(config: dict[str, Any]) -> dict[str, Any]:
    """The same model under an architecture that the engine does not serve."""
    return {**config, "architectures": [UNSUPPORTED], "model_type": "glm46v"}


def with_fp8(config: dict[str, Any]) -> dict[str, Any]:
    """compressed-tensors, FP8 per channel, activations per token; vision and lm_head are left."""
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", "dynamic": False}
    inputs = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    section = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", *_vision_modules(config)],
    }
    return {**config, "quantization_config": section}


def with_awq(config: dict[str, Any], group_size: int = 128) -> dict[str, Any]:
    """AWQ, four bits; the vision tower is left as it is."""
    section = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": group_size,
        "zero_point": True,
        "version": "gemm",
        "modules_to_not_convert": ["visual", "lm_head"],
    }
    return {**config, "quantization_config": section}


def _vision_modules(config: dict[str, Any]) -> list[str]:
    """Every linear layer of the vision tower by name, as llm-compressor writes its list."""
    depth = config["vision_config"]["depth"]
    inside = ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    blocks = [f"model.visual.blocks.{n}.{name}" for n in range(depth) for name in inside]
    merger = [f"model.visual.merger.{name}_proj" for name in ("gate", "up", "down")]
    return [*blocks, "model.visual.merger.proj", *merger]


def _text(heads: int, kv_heads: int, layers: int, width: int) -> dict[str, Any]:
    return {
        "hidden_size": 4_096,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "intermediate_size": width,
        "vocab_size": 151_552,
        "max_position_embeddings": 131_072,
        "attention_bias": True,
        "rms_norm_eps": 1e-05,
        "dtype": "bfloat16",
    }


def _vision(merger_width: int) -> dict[str, Any]:
    return {
        "depth": VISION_DEPTH,
        "hidden_size": 1_536,
        "num_heads": 12,
        "intermediate_size": merger_width,
        "out_hidden_size": 4_096,
        "image_size": 336,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
    }


def _config(
    architecture: str, kind: str, text: dict[str, Any], vision: dict[str, Any]
) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": kind,
        "text_config": text,
        "vision_config": vision,
        "tie_word_embeddings": False,
    }
