"""The status of the object: what the operator last saw and decided. Every field is optional."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glm_operator.api.fields import ATOMIC, BY_TYPE
from glm_operator.api.model import Model

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Bytes = Annotated[int, Field(ge=0, le=1 << 53)]
Tokens = Annotated[int, Field(ge=0, le=1 << 40)]
Generation = Annotated[int, Field(ge=0, le=1 << 53)]
Text = Annotated[str, Field(max_length=4096)]
LongText = Annotated[str, Field(max_length=32768)]
ShortText = Annotated[str, Field(max_length=253)]


class Condition(Model):
    """One aspect of the object's state."""

    type: str = Field(
        max_length=316, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", min_length=1
    )
    """What the condition is about."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: str = Field(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_]*)$")
    """Why, as one word of the catalogue of reasons."""
    message: LongText
    """Why, as a sentence."""
    last_transition_time: str = Field(max_length=64, json_schema_extra={"format": "date-time"})
    """When the status of the condition last changed."""
    observed_generation: Generation | None = None
    """Generation of the object that the condition was decided for."""


class RejectedOption(Model):
    """A way of running a tier that was not taken."""

    option: Text
    """Which GPU, node or size."""
    reason: ShortText
    """Why not, as one word of the catalogue of reasons."""
    message: Text
    """Why not, as a sentence with its figures."""


class PlannedTier(Model):
    """How a tier runs, or would run in mode Plan."""

    model: ShortText | None = None
    """Preset of the model."""
    quantization: ShortText | None = None
    """Number format of the weights."""
    gpu: ShortText | None = None
    """Product name of the GPUs that the size was computed for."""
    tensor: Count | None = None
    """GPUs that one replica is split over."""
    pipeline: Count | None = None
    """Stages of layers, each on so many GPUs."""
    expert: Literal["Enabled", "Disabled"] | None = None
    """Whether whole experts are spread over the GPUs of a stage."""
    kv_cache_dtype: Literal["BF16", "FP8"] | None = None
    """Number format of the key-value cache."""
    gpus_per_replica: Count | None = None
    """GPUs that one replica takes, all on one node."""
    nodes: tuple[ShortText, ...] | None = Field(
        default=None, max_length=1024, json_schema_extra=ATOMIC
    )
    """Nodes of the replicas, those still to be made included."""
    max_model_len: Tokens | None = None
    """Longest conversation in tokens."""
    kv_tokens: Tokens | None = None
    """Tokens that the key-value cache of one replica holds, as computed."""
    full_length_sequences: Count | None = None
    """Conversations of full length that one replica holds at once."""
    headroom_bytes: Bytes | None = None
    """Memory per GPU that is left beside the conversations of full length that were asked for."""
    gpu_weight_bytes: Bytes | None = None
    """Weights on each GPU, of the fullest stage."""
    max_num_seqs: Count | None = None
    """Requests that one replica runs at once; 0 is vLLM's default."""
    max_num_batched_tokens: Count | None = None
    """Tokens that one step of the engine works on."""
    cpu: ShortText | None = None
    """CPU request of one replica."""
    memory: ShortText | None = None
    """Memory request and limit of one replica, shared memory included."""
    shared_memory_bytes: Bytes | None = None
    """Size of /dev/shm."""
    checkpoint_bytes: Bytes | None = None
    """Size of the weights on disk."""
    warnings: tuple[Text, ...] | None = Field(default=None, max_length=16, json_schema_extra=ATOMIC)
    """What one should know before buying or starting it, in sentences."""
    alternatives: tuple[RejectedOption, ...] | None = Field(
        default=None, max_length=256, json_schema_extra=ATOMIC
    )
    """Ways of running the tier that fit too, and why another was taken."""
    help: tuple[Text, ...] | None = Field(default=None, max_length=16, json_schema_extra=ATOMIC)
    """What would help where the tier does not fit or has no room, the smallest change first."""
    rejected: tuple[RejectedOption, ...] | None = Field(
        default=None, max_length=256, json_schema_extra=ATOMIC
    )
    """Every way of running the tier that does not fit, with its reason, the nearest first."""


class PlanStatus(Model):
    """The plan by tier."""

    flagship: PlannedTier | None = None
    """The plan of the flagship."""
    flash: PlannedTier | None = None
    """The plan of flash."""
    text: PlannedTier | None = None
    """The plan of text."""


class NodeRequests(Model):
    """What a tier asks a node autoscaler for."""

    waiting: Count | None = None
    """Replicas that wait for a node."""
    failures: Count | None = None
    """How often in a row no node came that can host one."""
    failed_at: str | None = Field(
        default=None, max_length=64, json_schema_extra={"format": "date-time"}
    )
    """When that was last."""
    message: Text | None = None
    """How the last request ended, as a sentence."""


class WeightsCopy(Model):
    """The weights of a tier at one place."""

    place: ShortText | None = None
    """The node, or the claim."""
    state: Literal["Waiting", "Fetching", "Verifying", "Ready", "Failed"] | None = None
    """How far they are."""
    bytes: Bytes | None = None
    """Bytes that are there."""
    total_bytes: Bytes | None = None
    """Bytes that there will be; 0 is unknown."""
    bytes_per_second: Bytes | None = None
    """Present rate; 0 is unknown."""
    remaining_seconds: Count | None = None
    """Until they are all there at this rate; 0 is unknown."""
    message: Text | None = None
    """What is wrong, as a sentence."""


class WeightsStatus(Model):
    """The weights of a tier."""

    commit: ShortText | None = None
    """Commit of the repository that is served."""
    copies: tuple[WeightsCopy, ...] | None = Field(
        default=None, max_length=256, json_schema_extra=ATOMIC
    )
    """Every place that holds, gets, or cannot get them."""


class TierStatus(Model):
    """The replicas of a tier."""

    replicas: Count | None = None
    """Replicas that exist; read by the scale subresource."""
    ready_replicas: Count | None = None
    """Replicas that the gateway may route to."""
    desired_replicas: Count | None = None
    """Replicas that should exist."""
    summary: ShortText | None = None
    """Ready and desired replicas, as 2/3."""
    selector: Text | None = None
    """Label selector of the replicas; read by the scale subresource."""
    revision: ShortText | None = None
    """Revision that the replicas are brought to."""
    update_available: Text | None = None
    """What today's defaults would change, as a sentence; an edit of the tier takes it."""
    scaled_by: Literal["Operator", "Scale", "Spec"] | None = None
    """Who writes the number of replicas: the operator, an autoscaler through the scale
    subresource, or the author of the object."""
    weights: WeightsStatus | None = None
    """Where the weights are, where a Job looks after them."""
    node_requests: NodeRequests | None = None
    """What it asks a node autoscaler for, where placement.provisioning is NodeAutoscaler."""


class TierStatuses(Model):
    """The replicas by tier."""

    flagship: TierStatus | None = None
    """The replicas of the flagship."""
    flash: TierStatus | None = None
    """The replicas of flash."""
    text: TierStatus | None = None
    """The replicas of text."""


class GatewayStatus(Model):
    """The gateway."""

    url: Text | None = None
    """Where clients inside the cluster reach the gateway."""


class GLMDeploymentStatus(Model):
    """What the operator last saw and decided."""

    conditions: tuple[Condition, ...] | None = Field(
        default=None, max_length=32, json_schema_extra=BY_TYPE
    )
    """The state in conditions; Ready sums them up and is never true for an older generation."""
    observed_generation: Generation | None = None
    """Generation of the object that the status was computed from."""
    plan: PlanStatus | None = None
    """How each tier runs, or would run in mode Plan, and what was rejected."""
    tiers: TierStatuses | None = None
    """The replicas of each tier."""
    gateway: GatewayStatus | None = None
    """The gateway."""
