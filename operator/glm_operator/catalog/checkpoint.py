"""What a checkpoint really is: its own dimensions and formats in place of the preset's.

The facts are what a weights Job told of config.json and of the headers of the files; the schema is
that of `glm_serving.weights.facts`, and tests/data/checkpoints holds both sides to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from glm_operator.api import reasons
from glm_operator.catalog.formats import BF16, FP8, INT4, Format
from glm_operator.catalog.layers import ATTENTION, DENSE, ROUTED, SHARED
from glm_operator.catalog.memory import weight_bytes
from glm_operator.catalog.models import GIB, Model, Shapes

VERSION = 1
MIXTURE, DENSE_SEEING, TEXT_ONLY = (
    "Glm4vMoeForConditionalGeneration",
    "Glm4vForConditionalGeneration",
    "Glm4MoeForCausalLM",
)
SERVED = (MIXTURE, DENSE_SEEING, TEXT_ONLY)
"""Architectures of the presets that vLLM 0.32 serves (model_executor/models/registry.py)."""
PARTS = {"attention": ATTENTION, "dense": DENSE, "experts": ROUTED, "shared_experts": SHARED}
"""Classes of matrices as the facts name them -> as the catalogue does."""
MERGE, IMAGE_SIZE, CHANNELS, FRAMES = 2, 336, 3, 2
"""Of the encoder, in all models of the family (transformers, models/glm4v/modeling_glm4v.py)."""
NOTABLE_PERCENT = 2
"""Weights whose bytes differ by more from what the plan counts are told of."""
DIMENSIONS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "dense_width": "intermediate_size",
    "vocabulary": "vocab_size",
    "dense_layers": "first_k_dense_replace",
    "experts": "n_routed_experts",
    "shared_experts": "n_shared_experts",
    "expert_width": "moe_intermediate_size",
    "mtp_layers": "num_nextn_predict_layers",
}
"""Fields of Shapes -> keys of config.json."""
MOST = {
    "num_hidden_layers": 512,
    "n_routed_experts": 4096,
    "depth": 512,
    "max_position_embeddings": 1 << 30,
}
MAY_BE_ZERO = (
    "first_k_dense_replace",
    "n_routed_experts",
    "n_shared_experts",
    "moe_intermediate_size",
    "num_nextn_predict_layers",
    "groupSize",
)


class CheckpointRefused(ValueError):
    """A checkpoint that the tier cannot serve. `reason` is one of the catalogue of reasons."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as its checkpoint has it."""

    model: Model
    form: Format
    bytes: int
    """Bytes of all its files that an engine needs."""
    differences: tuple[str, ...] = ()
    """What differs from the preset and from the object, in sentences."""


def text_of(facts: Mapping[str, Any] | None) -> str:
    """The facts as text that can be kept and compared; empty where nothing is known."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":")) if facts else ""


@lru_cache(maxsize=256)
def adapted(model: Model, form: Format, text: str) -> Checkpoint:
    """The preset with the checkpoint's facts in place of its own.

    Args:
        model: the preset.
        form: the number format that the object names.
        text: the facts, as of `text_of`; a text without dimensions leaves the preset as it is.

    Raises:
        CheckpointRefused: the engine cannot serve it in this tier, or it cannot be understood.
    """
    facts = _facts(text)
    if "text" not in facts:
        return Checkpoint(model, form, 0)
    try:
        return _adapted(model, form, facts)
    except CheckpointRefused:
        raise
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        raise CheckpointRefused(
            reasons.CHECKPOINT_UNREADABLE,
            f"its config.json has a value that makes no sense ({error!r}): compare it with that of"
            f" the published {model.preset}",
        ) from error


def _adapted(model: Model, form: Format, facts: Mapping[str, Any]) -> Checkpoint:
    _check_architecture(model, str(facts.get("architecture", "")))
    found = replace(
        model,
        shapes=_shapes(model, facts),
        max_context_tokens=min(_context(facts), model.max_context_tokens),
    )
    _check_kind(model, found, facts)
    stored = _format(facts)
    told = tuple(_differences(model, found, form, stored, facts))
    return Checkpoint(found, stored, int(facts.get("bytes") or 0), told)


def _facts(text: str) -> Mapping[str, Any]:
    facts = json.loads(text) if text else {}
    if facts and facts.get("version", VERSION) != VERSION:
        raise CheckpointRefused(
            reasons.CHECKPOINT_UNREADABLE,
            f"its facts are of version {facts['version']}, and this operator reads {VERSION}: let"
            " the operator and weights.image be of one release",
        )
    found: Mapping[str, Any] = facts
    return found


def _check_architecture(model: Model, architecture: str) -> None:
    wanted = TEXT_ONLY if not model.sees else MIXTURE if model.is_mixture else DENSE_SEEING
    if architecture == wanted:
        return
    if architecture not in SERVED:
        raise CheckpointRefused(
            reasons.ARCHITECTURE_UNSUPPORTED,
            f"config.json names the architecture {architecture or 'nothing'}, which vLLM 0.32 does"
            f" not serve: take a checkpoint whose config.json names {wanted}",
        )
    raise CheckpointRefused(
        reasons.CHECKPOINT_MISMATCH,
        f"config.json names the architecture {architecture}, and {model.preset} is {wanted}: name"
        " another checkpoint in model.uri, or put this one into the tier of its kind",
    )


def _check_kind(preset: Model, found: Model, facts: Mapping[str, Any]) -> None:
    """Raise where a checkpoint of the right architecture lacks what the preset has."""
    lacks = ""
    if preset.is_mixture and not found.is_mixture:
        lacks = "experts (n_routed_experts)"
    elif preset.sees and not facts.get("vision"):
        lacks = "vision encoder (vision_config)"
    if lacks:
        raise CheckpointRefused(
            reasons.CHECKPOINT_MISMATCH,
            f"config.json has no {lacks}, and {preset.preset} has: name another checkpoint in"
            " model.uri",
        )


def _shapes(model: Model, facts: Mapping[str, Any]) -> Shapes:
    """The preset's shapes with every dimension that the checkpoint tells."""
    text = facts["text"]
    told = {
        ours: _count(text, key) for ours, key in DIMENSIONS.items() if text.get(key) is not None
    }
    if "head_dim" not in told and {"hidden", "heads"} <= told.keys():
        told["head_dim"] = told["hidden"] // max(1, told["heads"])
    vision = facts.get("vision")
    if vision:
        told["vision_parameters"] = vision_parameters(vision)
    norms = bool(text.get("use_qk_norm", model.shapes.qk_norm))
    found: Shapes = replace(model.shapes, **told)  # type: ignore[arg-type] # whole numbers all
    return replace(found, qk_norm=norms)


def _count(part: Mapping[str, Any], key: str) -> int:
    """A dimension. Raises CheckpointRefused where it can be none: plans go through all layers."""
    value = part[key]
    most = MOST.get(key, 1 << 20)
    least = 0 if key in MAY_BE_ZERO else 1
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise CheckpointRefused(
            reasons.CHECKPOINT_UNREADABLE,
            f"{key} of its config.json is {value!r}, and must be a whole number from {least} to"
            f" {most}",
        )
    return value


def vision_parameters(vision: Mapping[str, Any]) -> int:
    """Parameters of the encoder: patches, positions, blocks, merger, downsampling and norms.

    transformers, models/glm4v/modeling_glm4v.py; equal to the presets' built on the meta device.
    """
    hidden, out = _count(vision, "hidden_size"), _count(vision, "out_hidden_size")
    patch, size = _count(vision, "patch_size"), int(vision.get("image_size") or IMAGE_SIZE)
    patches = hidden * CHANNELS * FRAMES * patch * patch + hidden
    positions = (size // patch) ** 2 * hidden
    block = 2 * hidden + 4 * hidden * hidden + 3 * hidden * out
    merger = out * out + 2 * out + 3 * out * _count(vision, "intermediate_size")
    downsampling = out * hidden * MERGE * MERGE + out
    return (
        patches + positions + _count(vision, "depth") * block + merger + downsampling + 2 * hidden
    )


def _context(facts: Mapping[str, Any]) -> int:
    text, key = facts["text"], "max_position_embeddings"
    return _count(text, key) if text.get(key) is not None else MOST[key]


def _format(facts: Mapping[str, Any]) -> Format:
    stored = facts.get("quantization")
    if not stored:
        return Format(BF16)
    kind, method = stored.get("kind"), stored.get("method")
    if kind not in (FP8, INT4):
        raise CheckpointRefused(
            reasons.CHECKPOINT_UNREADABLE,
            f"it is quantised by {method}, whose size the plan cannot compute: take a checkpoint in"
            " BF16, FP8 or INT4, or set weights.prePull: Disabled to believe the object",
        )
    shares = ((PARTS[name], *_share(facts, name)) for name in sorted(PARTS))
    partly = tuple((part, every, small) for part, every, small in shares if small < every)
    return Format(kind, _group(kind, stored), partly)


def _share(facts: Mapping[str, Any], name: str) -> tuple[int, int]:
    """How many matrices of a class there are, and how many are stored small; (0, 0): untold."""
    every, small = (facts.get("modules") or {}).get(name, (0, 0))
    if not 0 <= int(small) <= int(every):
        raise CheckpointRefused(
            reasons.CHECKPOINT_UNREADABLE,
            f"{small} of its {every} matrices of the {name} are said to be quantised",
        )
    return int(every), int(small)


def _group(kind: str, stored: Mapping[str, Any]) -> int:
    """Of the checkpoint; the usual one is 0, as the object names it."""
    told = _count(stored, "groupSize") if "groupSize" in stored else 0
    return 0 if told == Format(kind).block else told


def _differences(
    preset: Model, found: Model, named: Format, stored: Format, facts: Mapping[str, Any]
) -> Iterator[str]:
    others = [
        f"{one.name.replace('_', ' ')} {getattr(found.shapes, one.name)} instead of"
        f" {getattr(preset.shapes, one.name)}"
        for one in fields(Shapes)
        if one.name != "norms_per_layer"
        and getattr(found.shapes, one.name) != getattr(preset.shapes, one.name)
    ]
    if others:
        yield f"the checkpoint is not {preset.preset} as published: {', '.join(others)}"
    if found.max_context_tokens < preset.max_context_tokens:
        yield f"the checkpoint holds {found.max_context_tokens} tokens of context at most"
    if (named.kind, named.block) != (stored.kind, stored.block):
        yield (
            f"model.quantization and groupSize say {named.describe()}, and the checkpoint is"
            f" {stored.describe()}, which the plan counts"
        )
    for part, every, small in stored.partly:
        yield f"{every - small} of {every} matrices of the {part} are not quantised"
    if _share(facts, "vision")[1]:
        yield (
            "the vision encoder is quantised, which vLLM may load without a word and answer"
            " nonsense about images with: compare its answers, or take another checkpoint"
        )
    yield from _bytes_apart(found, stored, int(facts.get("weightBytes") or 0))


def _bytes_apart(model: Model, form: Format, told: int) -> Iterator[str]:
    counted = weight_bytes(model, form)
    if told and abs(told - counted) * 100 > NOTABLE_PERCENT * told:
        yield (
            f"its files hold {told / GIB:.1f} GiB of weights, and the plan counts"
            f" {counted / GIB:.1f} GiB that are loaded"
        )
