"""Everything one plan is computed from, as frozen plain data.

`kube` reads it from the API server, tests write it by hand. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.manifests.weights_task import WeightsTask
from glm_operator.plan.limits import UNTOLD, Resources
from glm_operator.plan.order import Claim
from glm_operator.plan.quota import UNLIMITED, Limits


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Hold:
    """GPUs held on a node by one pod that is bound to it and not finished (terminating included).

    A pod of any GLMDeployment that is pinned to the node holds its GPUs before it is bound.
    """

    resource: str
    count: int
    namespace: str
    pod: str
    uid: str
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the inventory sees it."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    ready: bool = True
    unschedulable: bool = False
    allocatable: Mapping[str, int] = field(default_factory=dict)
    """GPU-like extended resources only: resource name -> count."""
    cpu_milli: int = 0
    """Thousandths of a CPU that all its pods together may ask for; 0: unknown."""
    memory_bytes: int = 0
    """The same of memory; 0: unknown."""
    holds: tuple[Hold, ...] = ()
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine pod of this object."""

    name: str
    uid: str
    tier: str
    revision: str
    ordinal: int
    created_at: float
    node: str = ""
    """The node it is pinned to (from its affinity), else the node it is bound to."""
    bound: bool = False
    gpus: int = 0
    resource: str = "nvidia.com/gpu"
    resources: Resources = UNTOLD
    """All that its pod asks for, for the namespace's quotas."""
    phase: str = "Pending"
    ip: str = ""
    container_id: str = ""
    """Id of the running engine container; empty when none runs."""
    containers_ready: bool = False
    routable: bool = False
    verified: bool | None = None
    """The readiness gate: None before the first check."""
    verified_container: str = ""
    verify_reason: str = ""
    verify_message: str = ""
    terminating: bool = False
    draining_since: float | None = None
    restarts: int = 0
    unschedulable: str = ""
    """The scheduler's sentence when it cannot place the pod."""
    unschedulable_since: float | None = None
    """Since when it says so; None: take `created_at`."""
    asks: bool = False
    """It was made without a node, for a node autoscaler to see."""
    gates: tuple[str, ...] = ()
    """Scheduling gates that somebody else set: the scheduler leaves the pod alone until then."""
    waiting_reason: str = ""
    """Reason of the engine container's waiting state, for example ImagePullBackOff."""
    waiting_message: str = ""
    failure: str = ""
    """Reason and message of a Failed pod, or the last termination of the engine container."""
    attempt: int = 0
    """From its annotation: how many replicas in a row failed before this one."""
    failed_at: float | None = None
    """When a Failed pod was first seen so by the API server; None: take `created_at`."""


class JobPhase(StrEnum):
    """How far a weights Job has come."""

    WAITING = "Waiting"
    """Its pod has not started."""
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Progress:
    """What the pod of a weights Job last told of itself."""

    stage: str
    """Reading, Waiting, Fetching, Verifying or Done."""
    done_bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: int = 0
    """0: not known yet."""
    trouble: str = ""
    """What keeps it from going on, as a sentence; empty: nothing, or not for long yet."""


@dataclass(frozen=True, slots=True)
class WeightsJob:
    """A Job of this object that reads, fetches or checks a checkpoint."""

    name: str
    uid: str
    task: WeightsTask
    created_at: float
    phase: JobPhase = JobPhase.WAITING
    pod: str = ""
    node: str = ""
    """The node that its pod is bound to."""
    ip: str = ""
    """Address of its running pod."""
    waiting_since: float | None = None
    """Since when its pod is to start, or to be made where it has none; None: it does not wait."""
    finished_at: float | None = None
    blocked: str = ""
    """Why its pod does not start, as a sentence of the scheduler or the kubelet."""
    reason: str = ""
    """Of the catalogue, of one that failed."""
    message: str = ""
    """What went wrong, as a sentence."""
    bytes: int = 0
    """Size of the copy, of one that is done."""
    facts: Mapping[str, Any] | None = None
    """What the checkpoint is, of one that read it."""
    progress: Progress | None = None
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Revision:
    """A ControllerRevision: what a tier resolved to. Listed here, not among the children."""

    name: str
    tier: str
    hash: str
    """From its revision label."""
    number: int
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayTier:
    """What one gateway reports of one tier."""

    arrivals: int = 0
    """Requests that chose the tier since the gateway started (monotonic)."""
    held: int = 0
    in_flight: int = 0
    replicas: Mapping[str, int] = field(default_factory=dict)
    """Engine pod name -> requests in flight; a replica no longer routable stays until 0."""
    routable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """One gateway's `/state`, as last polled."""

    pod: str
    generation: int
    age_seconds: float
    """Since the gateway last answered; since it was first asked where it never has."""
    heard: bool = True
    """Whether it has answered yet; where not, all else here says nothing."""
    tiers: Mapping[str, GatewayTier] = field(default_factory=dict)
    locked: str = ""
    """Why it lets nobody in: its API keys could not be read. Empty: it does."""


@dataclass(frozen=True, slots=True)
class ScalingMemory:
    """What the autoscaler remembers of one tier between ticks."""

    arrivals: Mapping[str, int] = field(default_factory=dict)
    """Gateway pod -> arrival counter last seen."""
    last_arrival_at: float | None = None
    below_since: float | None = None
    """Since when fewer replicas than the present ones would do."""
    desired: int | None = None
    reason: str = ""
    """Why `desired` last changed (a ScaleReason)."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """Cluster defaults that the operator was started with (chart values)."""

    engine_image: str = "vllm/vllm-openai:v0.32.0"
    gateway_image: str = "glm-operator/gateway:0.1.0"
    image_pull_policy: str = "IfNotPresent"
    weights_image: str = "glm-operator/weights:0.1.0"
    node_local: bool = True
    """Whether nodes may keep copies of weights."""
    node_root: str = "/var/lib/glm-operator"
    """Folder of a node below which copies are kept."""
    node_paths: tuple[str, ...] = ()
    """Folders of nodes that objects may read weights from by file://."""
    hub_endpoint: str = ""
    """Where the hub is, for those whose Secret does not say; empty: the hub client's default."""
    api_keys_secret_names: tuple[str, ...] = ("glm-api-keys",)
    """The Secrets that gateways may read API keys from."""


@dataclass(frozen=True, slots=True)
class PriorityClasses:
    """The cluster's PriorityClasses, as far as they are known."""

    values: Mapping[str, int] = field(default_factory=dict)
    default: int = 0
    """For pods that name none: the value of the class that is the global default."""
    complete: bool = False
    """Whether a name that is missing here does not exist."""

    def value(self, name: str) -> int:
        """The priority of pods that name a class; without a name, or one not known, the default."""
        return self.values.get(name, self.default)


@dataclass(frozen=True, slots=True)
class Observed:
    """The input of the planner."""

    object: GLMDeployment
    uid: str
    generation: int
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status as stored, raw."""
    replicas: tuple[Replica, ...] = ()
    revisions: tuple[Revision, ...] = ()
    nodes: tuple[Node, ...] = ()
    drivers: frozenset[str] = frozenset()
    """Drivers that offer GPUs by dynamic resource allocation, where no node offers them else."""
    limits: Limits = UNLIMITED
    """What the namespace allows."""
    weights: tuple[WeightsJob, ...] = ()
    """Jobs of this object that read, fetch or check checkpoints."""
    hypothetical: bool = False
    """A preview, which makes no Jobs: the preset is believed and weights count as present."""
    checkpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tier -> what a preview was told of its checkpoint; without, what is recorded or the preset
    counts."""
    children: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """(kind, name) -> live manifest of every owned object that is applied, not created."""
    gateways: tuple[GatewayReport, ...] = ()
    scaling: Mapping[str, ScalingMemory] = field(default_factory=dict)
    deleting: bool = False
    created_at: float = 0.0
    claims: tuple[Claim, ...] = ()
    """What objects claimed by their last plans, this one included."""
    priorities: PriorityClasses = PriorityClasses()
