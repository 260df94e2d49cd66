"""GPU memory in exact integers of bytes. Only the reserve is an estimate.

What vLLM 0.32 does (v1/worker/gpu_worker.py): it takes `gpu_memory_utilization` of the whole
device, subtracts weights, the profiled peak of activations and CUDA graphs, and makes the rest
KV cache. It refuses to start where that holds no request of `max_model_len`. With pipeline
parallelism every stage gets as many blocks of cache as the tightest one holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from glm_operator.catalog import layers
from glm_operator.catalog.formats import Format
from glm_operator.catalog.models import GIB, Model
from glm_operator.catalog.parts import stage_parts, vision_bytes
from glm_operator.catalog.sharding import Sharding, stage_layers

UTILIZATION_PERCENT = 92
"""Default of --gpu-memory-utilization in vLLM 0.32, in percent of the device's memory."""

RESERVE_BYTES = 6 * GIB
"""Per GPU, for activations, the encoder's profile run, CUDA graphs, CUDA context and NCCL.

An estimate for images without video, not yet measured on a GPU; with VIDEO_RESERVE_BYTES the one
figure of the plan that is not arithmetic.
"""
VIDEO_RESERVE_BYTES = 12 * GIB
"""The same where requests may hold a video: the encoder is profiled with its 30,000 tokens."""


def reserve_bytes(videos: int) -> int:
    """Bytes of each GPU that are neither weights nor KV cache. `videos`: most in one request."""
    return VIDEO_RESERVE_BYTES if videos else RESERVE_BYTES


@cache
def part_bytes(model: Model, form: Format) -> Mapping[str, int]:
    """Bytes of the weights by part, as they are stored; they add up to `weight_bytes`."""
    shapes, found = model.shapes, dict[str, int]()
    for layer in range(shapes.layers):
        for one in layers.linears(shapes, layer):
            found[one.part] = found.get(one.part, 0) + form.weight_bytes(one)
    small = sum(layers.small(shapes, layer) for layer in range(shapes.layers))
    found["routers, biases and norms"] = 2 * (small + shapes.hidden)
    found["embeddings and head"] = 4 * layers.embedding(shapes)
    if model.sees:
        found["vision"] = vision_bytes(model)
    return found


def weight_bytes(model: Model, form: Format) -> int:
    """Bytes of all weights that one replica loads, each once and as it is stored."""
    return sum(part_bytes(model, form).values())


def checkpoint_bytes(model: Model, form: Format) -> int:
    """Bytes of the checkpoint on disk: the weights, and layers that are not loaded."""
    return weight_bytes(model, form) + model.shapes.mtp_layers * _layer_bytes(
        model, form, model.shapes.layers - 1
    )


def _layer_bytes(model: Model, form: Format, layer: int) -> int:
    shapes = model.shapes
    matrices = sum(form.weight_bytes(one) for one in layers.linears(shapes, layer))
    return matrices + 2 * layers.small(shapes, layer)


@cache
def stage_weight_bytes(model: Model, form: Format, sharding: Sharding) -> tuple[int, ...]:
    """Bytes of weights on each GPU of each pipeline stage, as `stage_parts` counts them."""
    stages = stage_layers(model.shapes.layers, sharding.pipeline)
    parts = (stage_parts(model, form, sharding, stage) for stage in stages)
    return tuple(sum(one.gpu_bytes for one in stage) for stage in parts)


def kv_bytes_per_token(model: Model, tensor: int, fp8: bool = False) -> int:
    """Bytes of KV cache that one token takes on the GPUs of one tensor parallel rank.

    `layers * 2 * max(1, ceil(kv_heads / tensor)) * head_dim * bytes`: heads are divided until
    each GPU has one, then replicated. Pipeline stages share the layers among them.
    """
    return model.shapes.layers * _kv_bytes_per_layer(model, tensor, fp8)


def _kv_bytes_per_layer(model: Model, tensor: int, fp8: bool) -> int:
    heads = max(1, -(-model.shapes.kv_heads // tensor))
    return 2 * heads * model.shapes.head_dim * (1 if fp8 else 2)


def usable_bytes(gpu_bytes: int) -> int:
    """What vLLM takes of a GPU with this much memory."""
    return gpu_bytes * UTILIZATION_PERCENT // 100


@dataclass(frozen=True, slots=True)
class Budget:
    """The memory of each GPU of the tightest pipeline stage, in bytes."""

    usable: int
    weights: int
    reserve: int
    per_token: int
    """KV cache of one token."""

    @property
    def cache(self) -> int:
        """What is left for KV cache; negative where not even the weights fit."""
        return self.usable - self.weights - self.reserve

    @property
    def tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return max(0, self.cache // self.per_token)


def budget(
    model: Model, form: Format, sharding: Sharding, gpu_bytes: int, fp8_kv: bool, videos: int = 0
) -> Budget:
    """The memory of the GPUs that decide how much a replica holds."""
    per_layer = _kv_bytes_per_layer(model, sharding.tensor, fp8_kv)
    stages = stage_layers(model.shapes.layers, sharding.pipeline)
    weights = stage_weight_bytes(model, form, sharding)
    usable, reserve = usable_bytes(gpu_bytes), reserve_bytes(videos)
    budgets = (
        Budget(usable, held, reserve, len(stage) * per_layer)
        for stage, held in zip(stages, weights, strict=True)
    )
    return min(budgets, key=lambda one: (one.cache / one.per_token, one.cache))
