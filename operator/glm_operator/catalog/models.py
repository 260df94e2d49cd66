"""The models we serve, as data: exact shapes and parameter counts, names, limits, defaults.

Counts are exact: the models were built from their configuration on the meta device (vLLM 0.32,
transformers 5.19) and summed by part. To add a model, add an entry to `MODELS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a model by part; they add up to `total`."""

    attention: int
    dense_mlp: int
    """Dense feed-forward layers and, in a mixture of experts, the shared experts."""
    routed_experts: int
    router: int
    embeddings: int
    """Input embeddings and output head, which are not tied."""
    vision: int
    """Encoder blocks, merger and downsampling."""
    norms: int

    @property
    def total(self) -> int:
        """All parameters."""
        text = self.attention + self.dense_mlp + self.routed_experts
        return text + self.router + self.embeddings + self.vision + self.norms

    @property
    def quantised(self) -> int:
        """Parameters that an FP8 or INT4 checkpoint stores small.

        Embeddings, output head, vision, router and norms stay BF16 in the checkpoints there are.
        """
        return self.attention + self.dense_mlp + self.routed_experts


@dataclass(frozen=True, slots=True)
class Shapes:
    """Dimensions that sharding and the KV cache depend on."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_widths: tuple[int, ...]
    """Widths of the feed-forward layers that tensor parallelism splits."""
    vocabulary: int
    """Rows of the embeddings and of the output head, which tensor parallelism splits too."""


@dataclass(frozen=True, slots=True)
class HostNeeds:
    """What one replica needs of its node besides GPUs, where the user does not say."""

    cpu: str
    """Request as a Kubernetes quantity; start-up is bound by the CPU."""
    memory: str
    """Request and limit as a quantity, shared memory included."""
    shm_bytes: int
    """NCCL, message queues and the cache of preprocessed images live there."""
    startup_seconds: int
    """From container start to the first healthy answer, weights from a cold disk included."""
    shutdown_seconds: int
    """How long the engine may finish requests after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Model:
    """Everything the operator knows of one model."""

    preset: str
    tier: str
    served_name: str
    """Name under which clients and the gateway address it."""
    parameters: Parameters
    shapes: Shapes
    max_context_tokens: int
    image_tokens: int
    """Most tokens that one image becomes; 0 for a model that takes text only."""
    tool_call_parser: str
    reasoning_parser: str
    host: HostNeeds

    @property
    def is_mixture(self) -> bool:
        """Whether it is a mixture of experts, the only kind that takes expert parallelism."""
        return self.parameters.routed_experts > 0

    @property
    def sees(self) -> bool:
        """Whether it takes images; what has no encoder is told nothing about them."""
        return self.image_tokens > 0


GLM_46V = Model(
    preset="GLM-4.6V",
    tier="flagship",
    served_name="glm-4.6v",
    parameters=Parameters(
        attention=5_017_047_040,
        dense_mlp=134_479_872 + 778_567_680,
        routed_experts=99_656_663_040,
        router=23_592_960,
        embeddings=2 * 620_756_992,
        vision=858_681_856,
        norms=380_928,
    ),
    shapes=Shapes(
        layers=46,
        heads=96,
        kv_heads=8,
        head_dim=128,
        mlp_widths=(1408, 10944),
        vocabulary=151_552,
    ),
    max_context_tokens=131_072,
    image_tokens=6_144,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(
        cpu="8",
        memory="64Gi",
        shm_bytes=16 * GIB,
        startup_seconds=3600,
        shutdown_seconds=120,
    ),
)

GLM_46V_FLASH = Model(
    preset="GLM-4.6V-Flash",
    tier="flash",
    served_name="glm-4.6v-flash",
    parameters=Parameters(
        attention=1_426_411_520,
        dense_mlp=6_731_857_920,
        routed_experts=0,
        router=0,
        embeddings=2 * 620_756_992,
        vision=892_498_432,
        norms=495_616,
    ),
    shapes=Shapes(
        layers=40,
        heads=32,
        kv_heads=2,
        head_dim=128,
        mlp_widths=(13696,),
        vocabulary=151_552,
    ),
    max_context_tokens=131_072,
    image_tokens=6_144,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(
        cpu="4",
        memory="24Gi",
        shm_bytes=4 * GIB,
        startup_seconds=1200,
        shutdown_seconds=60,
    ),
)

GLM_46 = Model(
    preset="GLM-4.6",
    tier="text",
    served_name="glm-4.6",
    parameters=Parameters(
        attention=12_542_287_872,
        dense_mlp=566_231_040 + 2_099_773_440,
        routed_experts=335_963_750_400,
        router=72_908_800,
        embeddings=2 * 775_946_240,
        vision=0,
        norms=970_752,
    ),
    shapes=Shapes(
        layers=92,
        heads=96,
        kv_heads=8,
        head_dim=128,
        mlp_widths=(1536, 12288),
        vocabulary=151_552,
    ),
    max_context_tokens=202_752,
    image_tokens=0,
    tool_call_parser="glm45",
    reasoning_parser="glm45",
    host=HostNeeds(
        cpu="8",
        memory="64Gi",
        shm_bytes=16 * GIB,
        startup_seconds=7200,
        shutdown_seconds=120,
    ),
)
"""Without its layer for multi-token prediction, which engines do not load unless told to."""

MODELS: Mapping[str, Model] = MappingProxyType(
    {model.preset: model for model in (GLM_46V, GLM_46V_FLASH, GLM_46)}
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
