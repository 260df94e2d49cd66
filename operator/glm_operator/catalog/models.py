"""The models we serve, as data: exact shapes, names, limits, defaults.

Dimensions are those of transformers' configurations and of vLLM 0.32's model classes; the sums
that follow from them (see `layers`, `parts`) equal those of vLLM's models built on the meta device
(tests/dev/test_engine_weights.py). To add a model, add an entry to `MODELS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Shapes:
    """Dimensions that weights, sharding and the KV cache depend on."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    dense_width: int
    """Width of the dense feed-forward layers."""
    vocabulary: int
    vision_parameters: int = 0
    """Encoder blocks, merger and downsampling; 0 for a model without vision."""
    dense_layers: int = 0
    """Leading layers without experts; counts only in a mixture of experts."""
    experts: int = 0
    """Routed experts of a layer; 0 for a dense model."""
    shared_experts: int = 0
    expert_width: int = 0
    norms_per_layer: int = 2
    qk_norm: bool = False
    mtp_layers: int = 0
    """Layers for multi-token prediction: in the checkpoint, and not loaded."""


@dataclass(frozen=True, slots=True)
class HostNeeds:
    """What one replica needs of its node besides GPUs, where the user does not say."""

    shm_bytes: int
    """NCCL, message queues and the cache of preprocessed images live there."""
    startup_seconds: int
    """From container start to the first healthy answer, weights from a cold disk included."""
    shutdown_seconds: int
    """How long the engine may finish requests after SIGTERM."""

    def cpu(self, gpus: int) -> str:
        """CPU request as a quantity: two threads for each of the 2 + N cores that vLLM asks for.

        vLLM's guide counts one core for the API server, one for the engine and one per GPU.
        """
        return str(2 * (2 + gpus))

    def memory(self, gpus: int) -> str:
        """Memory request and limit as a quantity, shared memory included.

        An estimate: 12 GiB for the API server and the loader, 8 GiB per worker.
        """
        return f"{self.shm_bytes // GIB + 12 + 8 * gpus}Gi"


@dataclass(frozen=True, slots=True)
class Model:
    """Everything the operator knows of one model."""

    preset: str
    tier: str
    served_name: str
    """Name under which clients and the gateway address it."""
    shapes: Shapes
    max_context_tokens: int
    image_tokens: int
    """Most tokens that one image becomes; 0 for a model without vision."""
    video_tokens: int
    """Most tokens that one video becomes; 0 for a model without vision."""
    tool_call_parser: str
    reasoning_parser: str
    host: HostNeeds

    @property
    def is_mixture(self) -> bool:
        """Whether it is a mixture of experts, the only kind that takes expert parallelism."""
        return self.shapes.experts > 0

    @property
    def sees(self) -> bool:
        """Whether it takes images and videos; what has no encoder is told nothing about them."""
        return self.shapes.vision_parameters > 0


GLM_46V = Model(
    preset="GLM-4.6V",
    tier="flagship",
    served_name="glm-4.6v",
    shapes=Shapes(
        hidden=4096,
        layers=46,
        heads=96,
        kv_heads=8,
        head_dim=128,
        dense_width=10_944,
        vocabulary=151_552,
        vision_parameters=858_681_856,
        dense_layers=1,
        experts=128,
        shared_experts=1,
        expert_width=1_408,
    ),
    max_context_tokens=131_072,
    image_tokens=6_144,
    video_tokens=30_000,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(shm_bytes=16 * GIB, startup_seconds=3600, shutdown_seconds=120),
)

GLM_45V = replace(GLM_46V, preset="GLM-4.5V", served_name="glm-4.5v", max_context_tokens=65_536)
"""The predecessor: the same shapes with half the context."""

GLM_46V_FLASH = Model(
    preset="GLM-4.6V-Flash",
    tier="flash",
    served_name="glm-4.6v-flash",
    shapes=Shapes(
        hidden=4096,
        layers=40,
        heads=32,
        kv_heads=2,
        head_dim=128,
        dense_width=13_696,
        vocabulary=151_552,
        vision_parameters=892_498_432,
        norms_per_layer=4,
    ),
    max_context_tokens=131_072,
    image_tokens=6_144,
    video_tokens=30_000,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(shm_bytes=4 * GIB, startup_seconds=1200, shutdown_seconds=60),
)

GLM_41V_THINKING = replace(
    GLM_46V_FLASH,
    preset="GLM-4.1V-9B-Thinking",
    served_name="glm-4.1v-9b-thinking",
    max_context_tokens=65_536,
)
"""The predecessor: the same shapes with half the context."""

GLM_46 = Model(
    preset="GLM-4.6",
    tier="text",
    served_name="glm-4.6",
    shapes=Shapes(
        hidden=5120,
        layers=92,
        heads=96,
        kv_heads=8,
        head_dim=128,
        dense_width=12_288,
        vocabulary=151_552,
        dense_layers=3,
        experts=160,
        shared_experts=1,
        expert_width=1_536,
        qk_norm=True,
        mtp_layers=1,
    ),
    max_context_tokens=202_752,
    image_tokens=0,
    video_tokens=0,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(shm_bytes=16 * GIB, startup_seconds=7200, shutdown_seconds=120),
)

MODELS: Mapping[str, Model] = MappingProxyType(
    {model.preset: model for model in (GLM_46V, GLM_45V, GLM_46V_FLASH, GLM_41V_THINKING, GLM_46)}
)
"""Every model by its preset name."""


class UnknownPreset(KeyError):
    """The catalogue has no model of this name."""


def get(preset: str) -> Model:
    """The model of a preset. Raises `UnknownPreset`."""
    try:
        return MODELS[preset]
    except KeyError:
        known = ", ".join(MODELS)
        raise UnknownPreset(f"no preset {preset!r} in the catalogue; it has {known}") from None


def of_tier(tier: str) -> tuple[Model, ...]:
    """The models that a tier may serve."""
    return tuple(model for model in MODELS.values() if model.tier == tier)
