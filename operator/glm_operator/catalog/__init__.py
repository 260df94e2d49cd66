"""What we know of each model and each GPU: shapes, bytes, parsers, legal sharding. Pure."""

from glm_operator.catalog.checkpoint import Checkpoint, CheckpointRefused, adapted, text_of
from glm_operator.catalog.formats import Format
from glm_operator.catalog.gpus import GPU, GPUS
from glm_operator.catalog.layers import parameters
from glm_operator.catalog.memory import (
    Budget,
    budget,
    checkpoint_bytes,
    kv_bytes_per_token,
    part_bytes,
    stage_weight_bytes,
    weight_bytes,
)
from glm_operator.catalog.models import MODELS, Model, UnknownPreset, get, of_tier
from glm_operator.catalog.sharding import (
    Sharding,
    group_refusal,
    head_refusal,
    legal_tensor,
    refusal,
)

__all__ = [
    "GPU",
    "GPUS",
    "MODELS",
    "Budget",
    "Checkpoint",
    "CheckpointRefused",
    "Format",
    "Model",
    "Sharding",
    "UnknownPreset",
    "adapted",
    "budget",
    "checkpoint_bytes",
    "get",
    "group_refusal",
    "head_refusal",
    "kv_bytes_per_token",
    "legal_tensor",
    "of_tier",
    "parameters",
    "part_bytes",
    "refusal",
    "stage_weight_bytes",
    "text_of",
    "weight_bytes",
]
