"""GPU memory in exact integers of bytes. Only the reserve is an estimate.

What vLLM 0.32 does (v1/worker/gpu_worker.py): it takes `gpu_memory_utilization` of the whole
device, subtracts weights, the profiled peak of activations and CUDA graphs, and makes the rest
KV cache. It refuses to start where that holds no request of `max_model_len`.
"""

from __future__ import annotations

from glm_operator.catalog.models import GIB, Model

UTILIZATION_PERCENT = 92
"""Default of --gpu-memory-utilization in vLLM 0.32, in percent of the device's memory."""

RESERVE_BYTES = 6 * GIB
"""Per GPU, for activations, the encoder's profile run, CUDA graphs, CUDA context and NCCL.

An estimate for images without video; the one figure of the plan that is not arithmetic.
"""

INT4_GROUP = 128
"""Weights that share one scale in an INT4 checkpoint (AWQ and GPTQ as usually published)."""

_SCALE_BYTES = 2


def _fp8_scales(quantised: int) -> int:
    """Bytes of per-channel FP8 scales: 0.16 GB for 105.6 G parameters of GLM-4.6V."""
    return quantised * 15 // 10_000


def weight_bytes(model: Model, quantization: str, group: int = INT4_GROUP) -> int:
    """Bytes of all weights in GPU memory.

    `quantization`: BF16, FP8 (per channel) or INT4, with `group` weights to a scale.
    """
    total, small = model.parameters.total, model.parameters.quantised
    kept = 2 * (total - small)
    if quantization == "FP8":
        return kept + small + _fp8_scales(small)
    if quantization == "INT4":
        return kept + small // 2 + small // group * _SCALE_BYTES
    return 2 * total


def vision_bytes(model: Model) -> int:
    """Bytes of the vision encoder; it stays BF16 in every checkpoint."""
    return 2 * model.parameters.vision


def gpu_weight_bytes(model: Model, quantization: str, tensor: int, group: int = INT4_GROUP) -> int:
    """Bytes of weights on each GPU of a replica.

    `(total - vision) / tensor + vision`: with --mm-encoder-tp-mode data, which the operator
    always sets, every GPU holds the whole encoder.
    """
    vision = vision_bytes(model)
    split = weight_bytes(model, quantization, group) - vision
    return -(-split // tensor) + vision


def kv_bytes_per_token(model: Model, tensor: int, fp8: bool = False) -> int:
    """Bytes of KV cache that one token takes on each GPU of a replica.

    `layers * 2 * max(1, ceil(kv_heads / tensor)) * head_dim * bytes`: heads are divided until
    each GPU has one, then replicated.
    """
    shapes = model.shapes
    heads = max(1, -(-shapes.kv_heads // tensor))
    return shapes.layers * 2 * heads * shapes.head_dim * (1 if fp8 else 2)


def usable_bytes(gpu_bytes: int) -> int:
    """What vLLM takes of a GPU with this much memory."""
    return gpu_bytes * UTILIZATION_PERCENT // 100


def kv_cache_bytes(model: Model, quantization: str, tensor: int, gpu_bytes: int) -> int:
    """What is left for KV cache on each GPU; negative where not even the weights fit."""
    weights = gpu_weight_bytes(model, quantization, tensor)
    return usable_bytes(gpu_bytes) - weights - RESERVE_BYTES
