"""What we know of each model and each GPU: shapes, bytes, parsers, legal sharding. Pure."""

from glm_operator.catalog.gpus import GPU, GPUS
from glm_operator.catalog.memory import (
    RESERVE_BYTES,
    gpu_weight_bytes,
    kv_bytes_per_token,
    kv_cache_bytes,
    usable_bytes,
    weight_bytes,
)
from glm_operator.catalog.models import MODELS, Model, UnknownPreset, get
from glm_operator.catalog.sharding import (
    automatic_tensor,
    group_refusal,
    head_refusal,
    legal_tensor,
)

__all__ = [
    "GPU",
    "GPUS",
    "MODELS",
    "RESERVE_BYTES",
    "Model",
    "UnknownPreset",
    "automatic_tensor",
    "get",
    "gpu_weight_bytes",
    "group_refusal",
    "head_refusal",
    "kv_bytes_per_token",
    "kv_cache_bytes",
    "legal_tensor",
    "usable_bytes",
    "weight_bytes",
]
