"""One tier of the object: model, engine, sharding, placement, scaling.

Docstrings below fields become descriptions; see `v1alpha1` for how they end.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import override

from glm_operator.api import rules, weights_rules
from glm_operator.api.enums import (
    Expert,
    KVCacheDType,
    Pinning,
    PrePull,
    Provisioning,
    Quantization,
    ScalingMode,
    TaintEffect,
    Thinking,
    TolerationOperator,
    WeightsCache,
)
from glm_operator.api.fields import (
    ATOMIC,
    ATOMIC_MAP,
    BY_NAME,
    KEY_LIMIT,
    LABEL_KEY,
    SET,
    Argument,
    DnsName,
    EachOnce,
    LabelValue,
    NodeName,
    Quantity,
)
from glm_operator.api.model import Model, Rule


class ModelSource(Model):
    """Which model a tier serves and where its weights are."""

    rules: ClassVar[tuple[Rule, ...]] = rules.MODEL

    preset: str
    uri: str = Field(min_length=1, max_length=512)
    """Where the checkpoint is: hf://organisation/name on the Hugging Face hub, pvc://claim/path in
    a PersistentVolumeClaim of the namespace, file:///path on the node (below a folder that the
    platform allows), or image:///path inside the engine's own image. RestartsTier."""
    revision: str = Field(default="", max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?$")
    """Commit, tag or branch of an hf:// checkpoint; empty is its default branch. It is resolved to
    a commit once and recorded. RestartsTier."""
    quantization: Quantization
    """Number format of the checkpoint's weights, from which the plan computes their size; Auto is
    what the checkpoint says when it is read. Where it was read and differs, the checkpoint counts,
    and a warning in status.plan says so. RestartsTier."""
    group_size: int = Field(default=0, ge=0, le=128)
    """Weights of the checkpoint that share one scale; 0 is the usual: groups of 128 in INT4, one
    scale per output in FP8. In FP8, 128 means blocks of 128 by 128. RestartsTier."""


class FlagshipModel(ModelSource):
    """The model of the flagship tier."""

    preset: Literal["GLM-4.6V", "GLM-4.5V"]
    """Catalogue entry with the model's shapes, limits and parsers. RestartsTier."""


class FlashModel(ModelSource):
    """The model of the flash tier."""

    preset: Literal["GLM-4.6V-Flash", "GLM-4.1V-9B-Thinking"]
    """Catalogue entry with the model's shapes, limits and parsers. RestartsTier."""


class TextModel(ModelSource):
    """The model of the text tier."""

    preset: Literal["GLM-4.6"]
    """Catalogue entry with the model's shapes, limits and parsers. RestartsTier."""


class EnvVar(Model):
    """An environment variable with a literal value."""

    rules: ClassVar[tuple[Rule, ...]] = rules.VARIABLE

    name: str = Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the variable. RestartsTier."""
    value: str = Field(default="", max_length=4096)
    """Its literal value; no secret belongs here. RestartsTier."""


class EngineResources(Model):
    """What one engine container asks for besides its GPUs."""

    cpu: Quantity = ""
    """CPU request as a quantity, without a limit; empty is the catalogue's default.
    RestartsTier."""
    memory: Quantity = ""
    """Memory request and limit as a quantity, shared memory included; empty is the catalogue's
    default. RestartsTier."""


class Engine(Model):
    """The vLLM container of a tier."""

    rules: ClassVar[tuple[Rule, ...]] = rules.ENGINE

    image: str = Field(default="", max_length=512, pattern=r"^([A-Za-z0-9][A-Za-z0-9._/:@-]*)?$")
    """Image of vLLM 0.32 or newer; empty is the operator's default, recorded when the tier starts.
    RestartsTier."""
    extra_args: tuple[Argument, ...] = Field(default=(), max_length=64, json_schema_extra=ATOMIC)
    """Arguments appended to vLLM's, one item per word. Those that the operator sets itself and
    those that open the engine to its clients are refused. RestartsTier."""
    env: Annotated[tuple[EnvVar, ...], EachOnce] = Field(
        default=(), max_length=64, json_schema_extra=BY_NAME
    )
    """Environment variables of the engine. RestartsTier."""
    resources: EngineResources = EngineResources()
    """CPU and memory of one replica. RestartsTier."""


class Parallelism(Model):
    """How one replica is spread over GPUs."""

    tensor: str = Field(default="Auto", max_length=4, pattern=r"^(Auto|[1-9][0-9]?)$")
    """GPUs that one replica is split over, as a string; Auto is the smallest number that fits.
    RestartsTier."""
    pipeline: str = Field(default="Auto", max_length=4, pattern=r"^(Auto|1|2|4|8)$")
    """Stages of layers that one replica is spread over, each on as many GPUs as tensor says. Auto
    is 1, unless tensor is Auto too and nothing fits without stages. RestartsTier."""
    expert: Expert = Expert.AUTO
    """Whether whole experts are spread over the GPUs of a replica. Auto is Enabled for a mixture of
    experts on more than one GPU. RestartsTier."""


class Context(Model):
    """How long a conversation may be."""

    rules: ClassVar[tuple[Rule, ...]] = rules.CONTEXT

    max_model_len: int = Field(default=0, ge=0, le=202752)
    """Longest conversation in tokens, images and answer included; 0 is the longest that fits, at
    most the model's own limit. RestartsTier."""
    kv_cache_dtype: KVCacheDType = KVCacheDType.AUTO
    """Number format of the key-value cache: FP8 holds twice as much and costs some accuracy. Auto
    is BF16 unless nothing fits, then FP8 on GPUs that compute in it. RestartsTier."""
    full_length_sequences: int = Field(default=1, ge=1, le=1024)
    """Conversations of full length that one replica must hold at once; an automatic length leaves
    room for so many. RestartsTier."""


class Multimodal(Model):
    """What a request may carry besides text."""

    max_images_per_request: int = Field(default=16, ge=1, le=256)
    """Images in one request, those of earlier turns included. RestartsTier."""
    max_videos_per_request: int = Field(default=0, ge=0, le=4)
    """Videos in one request; more than 0 doubles the memory that the plan keeps free for the
    encoder. RestartsTier."""


class ThinkingDefaults(Model):
    """How much the model reasons where a client does not say."""

    default: Thinking = Thinking.ENABLED
    """Whether the model thinks before it answers. Clients may say otherwise. RestartsTier."""
    max_output_tokens: int = Field(default=16384, ge=256, le=131072)
    """Longest answer in tokens, thinking included, that clients get without asking for less.
    RestartsTier."""


class Toleration(Model):
    """A taint that the tier's pods tolerate."""

    rules: ClassVar[tuple[Rule, ...]] = rules.TOLERATION

    key: str = Field(default="", max_length=KEY_LIMIT, pattern=f"^$|{LABEL_KEY}")
    """Key of the taint; empty with operator Exists is every taint. RestartsTier."""
    operator: TolerationOperator = TolerationOperator.EQUAL
    """Whether the taint must only exist, or have the value too. RestartsTier."""
    value: LabelValue = ""
    """Value of the taint, with operator Equal. RestartsTier."""
    effect: TaintEffect | None = None
    """Effect of the taint; left out, every effect. RestartsTier."""


class NodeAutoscaler(Model):
    """How new nodes are asked for where provisioning is NodeAutoscaler."""

    rules: ClassVar[tuple[Rule, ...]] = rules.NODE_AUTOSCALER

    node_shape: str = Field(default="", max_length=32)
    """The nodes that come, such as 8xH100-80GB, so that the tier can be sized before the first one
    is there; empty: nodes like those of the cluster. It changes nothing that is sized already.
    Live."""
    max_unschedulable: int = Field(default=1, ge=1, le=64)
    """Most replicas of the tier that wait for a new node at a time. Live."""
    timeout_seconds: int = Field(default=900, ge=10, le=7200)
    """Seconds after which a replica that no node came for is withdrawn; it is tried again after as
    long, and after twice as long each further time, at most an hour. Live."""


class Placement(Model):
    """Which nodes a tier may use."""

    rules: ClassVar[tuple[Rule, ...]] = rules.PLACEMENT

    pinning: Pinning = Pinning.REQUIRED
    """Whether a replica belongs to the node that the plan chose: Required waits for that node,
    Preferred lets the scheduler use another, None leaves the choice to the scheduler.
    RestartsTier."""
    node_names: Annotated[tuple[NodeName, ...], EachOnce] = Field(
        default=(), max_length=256, json_schema_extra=SET
    )
    """The nodes that may be used; empty lets the planner choose among all. RestartsTier."""
    node_selector: dict[str, LabelValue] = Field(
        default={}, max_length=32, json_schema_extra=ATOMIC_MAP
    )
    """Labels that a node must have. RestartsTier."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32, json_schema_extra=ATOMIC)
    """Taints that are tolerated besides acceleratorResource:NoSchedule. RestartsTier."""
    accelerator_resource: str = Field(
        default="nvidia.com/gpu",
        max_length=KEY_LIMIT,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    )
    """Extended resource that counts the GPUs. RestartsTier."""
    runtime_class_name: DnsName = ""
    """RuntimeClass of the engine pods; empty is the nodes' default. RestartsTier."""
    priority_class_name: DnsName = ""
    """PriorityClass of the engine pods; empty is the cluster's default. Where several objects want
    the same GPUs, a higher value comes first, then the older object. RestartsTier."""
    provisioning: Provisioning = Provisioning.NONE
    """Whether replicas without room wait for GPUs of nodes that are there (None), or ask a node
    autoscaler for new nodes, as pods without a node (NodeAutoscaler). Live."""
    node_autoscaler: NodeAutoscaler = NodeAutoscaler()
    """How new nodes are asked for where provisioning is NodeAutoscaler. Live."""


class Weights(Model):
    """How a checkpoint comes to the engine."""

    rules: ClassVar[tuple[Rule, ...]] = weights_rules.WEIGHTS

    cache: WeightsCache = WeightsCache.NODE_LOCAL
    """Where an hf:// checkpoint is kept: NodeLocal, one verified copy on each node that needs it;
    PersistentVolumeClaim, one verified copy in the claim of claimName; Ephemeral, in each pod,
    which downloads it by itself at every start. RestartsTier."""
    claim_name: DnsName = ""
    """Claim of the namespace that keeps the copy with cache PersistentVolumeClaim; every node of
    the tier must be able to mount it. RestartsTier."""
    pre_pull: PrePull = PrePull.ENABLED
    """Whether the checkpoint is read before GPUs are taken, so that the plan counts what it really
    holds, and is fetched ahead to nodes where flash may grow. Disabled believes the preset.
    Live."""
    secret_ref: DnsName = ""
    """Secret of the namespace whose keys become variables of the download: HF_TOKEN for gated
    repositories, HF_ENDPOINT for a mirror. Live."""


class Drain(Model):
    """How a replica leaves."""

    timeout_seconds: int = Field(default=300, ge=0, le=3600)
    """How long a replica that was taken out of routing may finish its requests, in seconds.
    Live."""


class Tier(Model):
    """What all tiers have in common."""

    model: ModelSource
    engine: Engine = Engine()
    """The vLLM container. RestartsTier."""
    parallelism: Parallelism = Parallelism()
    """How one replica is spread over GPUs. RestartsTier."""
    context: Context = Context()
    """How long a conversation may be. RestartsTier."""
    thinking: ThinkingDefaults = ThinkingDefaults()
    """How much the model reasons where a client does not say. RestartsTier."""
    placement: Placement = Placement()
    """Which nodes the tier may use. RestartsTier."""
    weights: Weights = Weights()
    """How the checkpoint comes to the engine. RestartsTier."""
    replicas: int
    drain: Drain = Drain()
    """How a replica leaves. Live."""

    @property
    def max_images(self) -> int:
        """Images that one request may carry; 0: the model takes text only."""
        return 0

    @property
    def max_videos(self) -> int:
        """Videos that one request may carry."""
        return 0


class SeeingTier(Tier):
    """What the tiers of models with vision have in common."""

    multimodal: Multimodal = Multimodal()
    """What a request may carry besides text. RestartsTier."""

    @property
    @override
    def max_images(self) -> int:
        """Images that one request may carry."""
        return self.multimodal.max_images_per_request

    @property
    @override
    def max_videos(self) -> int:
        """Videos that one request may carry."""
        return self.multimodal.max_videos_per_request


class FlagshipTier(SeeingTier):
    """GLM-4.6V, the large mixture of experts: a fixed number of replicas over several GPUs each."""

    rules: ClassVar[tuple[Rule, ...]] = rules.tier(
        "96 attention heads and 8 key-value heads", "GLM-4.6V", "GLM-4.5V"
    )

    model: FlagshipModel
    """Which model, and where its weights are. RestartsTier."""
    replicas: int = Field(default=1, ge=1, le=64)
    """Number of replicas. Live."""


class TextTier(Tier):
    """GLM-4.6, the large text model: a fixed number of replicas over several GPUs each."""

    rules: ClassVar[tuple[Rule, ...]] = rules.tier(
        "96 attention heads and 8 key-value heads", "GLM-4.6"
    )

    model: TextModel
    """Which model, and where its weights are. RestartsTier."""
    replicas: int = Field(default=1, ge=1, le=64)
    """Number of replicas. Live."""


class ScaleToZero(Model):
    """When flash may sleep, and how long a request waits for it."""

    idle_seconds: int = Field(default=600, ge=10, le=86400)
    """Seconds without a request for flash after which its last replica goes, where minReplicas
    is 0. Live."""
    hold_timeout_seconds: int = Field(default=300, ge=1, le=3600)
    """Seconds that the gateway holds a request while no replica of flash is ready. Live."""


class Scaling(Model):
    """How the number of flash replicas is found."""

    rules: ClassVar[tuple[Rule, ...]] = rules.SCALING

    mode: ScalingMode = ScalingMode.INTERNAL
    """Who sets the number of replicas: the operator from the work it sees, an autoscaler through
    the scale subresource, or you. Live."""
    min_replicas: int = Field(default=1, ge=0, le=256)
    """Fewest replicas in mode Internal; with 0 flash sleeps when idle, and a cold start takes
    minutes. Live."""
    max_replicas: int = Field(default=8, ge=1, le=256)
    """Most replicas in mode Internal. Live."""
    scale_to_zero: ScaleToZero = ScaleToZero()
    """When flash may sleep, and how long a request waits for it. Live."""


class FlashTier(SeeingTier):
    """GLM-4.6V-Flash, the small dense model: replicas that come and go with the work."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *rules.tier(
            "32 attention heads and 2 key-value heads", "GLM-4.6V-Flash", "GLM-4.1V-9B-Thinking"
        ),
        *rules.FLASH,
    )

    model: FlashModel
    """Which model, and where its weights are. RestartsTier."""
    replicas: int = Field(default=1, ge=0, le=256)
    """Number of replicas where scaling.mode is External or Off; the target of kubectl scale.
    Live."""
    scaling: Scaling = Scaling()
    """How the number of replicas is found. Live."""


AnyTier = FlagshipTier | FlashTier | TextTier
"""A tier as an object has it."""
