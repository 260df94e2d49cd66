"""The engine pod: created once, never applied again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.manifests import arguments
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights_mount import WeightsMount, weights_mount

ENGINE_USER = 10001
PRE_STOP_SECONDS = 5
"""Gateways drop a replica within a second of its deletion; this is for slower clients."""
GRACE_MARGIN_SECONDS = 15
"""What vLLM needs after its last request to leave its workers."""
STARTUP_PERIOD_SECONDS = 2


def grace_seconds(spec: EngineSpec) -> int:
    """Termination grace: long enough for preStop, the requests in flight, and the exit."""
    return PRE_STOP_SECONDS + spec.shutdown_seconds + GRACE_MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class NodeWish:
    """What a replica without a node asks a node autoscaler for."""

    text: str
    """In words, such as 8xH100-80GB."""
    label: str
    """The node label that names the GPU."""
    avoid: tuple[str, ...] = ()
    """Its values on nodes that could not hold the replica."""
    prefer: tuple[str, ...] = ()
    """Its values on nodes that are wanted."""


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What distinguishes one replica from its siblings."""

    ordinal: int
    node: str = ""
    attempt: int = 0
    """How many replicas in a row failed before this one; it sets the next back-off."""
    wish: NodeWish | None = None
    """Instead of a node: which one the scheduler should wait for."""
    gpu: str = ""
    """Kind of the node's GPUs; compiled code is of no use to another."""


def engine_pod(
    owner: Owner, spec: EngineSpec, revision: str, identity: PodIdentity, pull_policy: str
) -> dict[str, Any]:
    """The manifest of one replica, pinned to `identity.node` where one is given."""
    name = names.replica(owner.name, spec.tier, revision, identity.ordinal)
    labels = {names.LABEL_TIER: spec.tier, names.LABEL_REVISION: revision}
    metadata = owner.metadata(name, "engine", **labels)
    metadata["annotations"] = _annotations(spec, identity)
    copy = weights_mount(owner, spec, identity.node, identity.gpu)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [_container(spec, pull_policy, copy)],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": grace_seconds(spec),
            "readinessGates": [{"conditionType": names.GATE_VERIFIED}],
            # A Service called `vllm` would inject VLLM_PORT=tcp://..., and vLLM would not start.
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": _pod_security(),
            "tolerations": tolerations(spec.resource, spec.tolerations),
            "volumes": _volumes(spec, copy),
            **_placement(spec, identity),
            **_optional(spec),
        },
    }


def _annotations(spec: EngineSpec, identity: PodIdentity) -> dict[str, str]:
    found = {names.ANNOTATION_ATTEMPT: str(identity.attempt)}
    if identity.node and spec.pinning != "Required":
        found[names.ANNOTATION_PLANNED_NODE] = identity.node
    if identity.wish is not None:
        found[names.ANNOTATION_ASKS_FOR_NODE] = identity.wish.text
    return found


def _container(spec: EngineSpec, pull_policy: str, copy: WeightsMount | None) -> dict[str, Any]:
    mounted = copy is not None
    downloads = spec.uri.startswith("hf://") and not mounted and bool(spec.secret)
    variables = [{"secretRef": {"name": spec.secret}}] if downloads else []
    return {
        "name": names.ENGINE_CONTAINER,
        "image": spec.image,
        "imagePullPolicy": pull_policy,
        "command": list(arguments.COMMAND),
        "args": arguments.arguments(spec, mounted=mounted),
        "env": arguments.environment(spec, mounted=mounted),
        **({"envFrom": variables} if variables else {}),
        "ports": [{"name": "http", "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        "resources": resources(spec),
        "volumeMounts": _mounts(copy),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        **_probes(spec),
    }


def _probes(spec: EngineSpec) -> dict[str, Any]:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    return {
        "startupProbe": health
        | {
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            # The count survives container restarts, so the whole window must fit into one.
            "failureThreshold": spec.startup_seconds // STARTUP_PERIOD_SECONDS,
        },
        "readinessProbe": health | {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 2},
        # Image preprocessing stalls the API loop for seconds: only a long silence is a death.
        "livenessProbe": health
        | {"periodSeconds": 10, "timeoutSeconds": 10, "failureThreshold": 6},
    }


def _pod_security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": ENGINE_USER,
        "runAsGroup": ENGINE_USER,
        "fsGroup": ENGINE_USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def resources(spec: EngineSpec) -> dict[str, dict[str, str]]:
    """Requests and limits of the engine's container."""
    requests = {"cpu": spec.cpu, "memory": spec.memory}
    gpus = {spec.resource: str(spec.gpus)}
    given = {key: value for key, value in requests.items() if value}
    limits = {"memory": spec.memory} if spec.memory else {}
    return {"requests": given | gpus, "limits": limits | gpus}


def _volumes(spec: EngineSpec, copy: WeightsMount | None) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(spec.shm_bytes)}},
        {"name": "tmp", "emptyDir": {}},
    ]
    return volumes if copy is None else [*volumes, *copy.volumes()]


def _mounts(copy: WeightsMount | None) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "shm", "mountPath": "/dev/shm"},
        {"name": "tmp", "mountPath": arguments.TEMPORARY},
    ]
    return mounts if copy is None else [*mounts, *copy.mounts()]


def tolerations(resource: str, more: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The taint of nodes that are kept for GPUs, and what the user tolerates besides."""
    gpu = {"key": resource, "operator": "Exists", "effect": "NoSchedule"}
    return [gpu, *(dict(item) for item in more)]


def _placement(spec: EngineSpec, identity: PodIdentity) -> dict[str, Any]:
    selector = {"nodeSelector": dict(spec.node_selector)} if spec.node_selector else {}
    node = identity.node
    if identity.wish is not None:
        return selector | {"affinity": {"nodeAffinity": _wished(identity.wish)}}
    if not node or spec.pinning == "None":
        return selector
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    terms: dict[str, Any] = {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
    }
    if spec.pinning == "Preferred":
        weighted = {"weight": 100, "preference": term}
        terms = {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}
    return selector | {"affinity": {"nodeAffinity": terms}}


def _wished(wish: NodeWish) -> dict[str, Any]:
    """A node without the label is accepted: new ones get it some time after their GPUs."""
    found: dict[str, Any] = {}
    if wish.avoid:
        one = {"key": wish.label, "operator": "NotIn", "values": list(wish.avoid)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [one]}]}
        found["requiredDuringSchedulingIgnoredDuringExecution"] = terms
    if wish.prefer:
        one = {"key": wish.label, "operator": "In", "values": list(wish.prefer)}
        weighted = {"weight": 100, "preference": {"matchExpressions": [one]}}
        found["preferredDuringSchedulingIgnoredDuringExecution"] = [weighted]
    return found


def _optional(spec: EngineSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if spec.runtime_class:
        found["runtimeClassName"] = spec.runtime_class
    if spec.priority_class:
        found["priorityClassName"] = spec.priority_class
    if spec.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in spec.image_pull_secrets]
    return found
