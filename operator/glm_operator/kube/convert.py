"""Dicts of the API server to the planner's plain data. Pure; the CLI's plan uses it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.api.quantities import exact, whole
from glm_operator.kube import limits
from glm_operator.plan import times
from glm_operator.plan.observed import Hold, Node, Replica, Revision, Taint

Raw = Mapping[str, Any]

FINISHED = ("Failed", "Succeeded")


def is_extended(resource: str) -> bool:
    """Whether a resource name is an extended one, which GPUs are offered as."""
    domain, slash, _ = resource.partition("/")
    return bool(slash) and not domain.endswith("kubernetes.io")


def extended(amounts: Mapping[str, Any]) -> dict[str, int]:
    """The extended resources of a quantity map. What is not whole can be no such amount."""
    counts = {name: whole(amount) for name, amount in amounts.items() if is_extended(name)}
    return {name: count for name, count in counts.items() if count is not None}


def requested(pod: Raw) -> dict[str, int]:
    """Extended resources that a pod takes, by the scheduler's rule.

    Containers and native sidecars add up; of the other init containers the largest counts.
    """
    spec = pod.get("spec", {})
    total: dict[str, int] = {}
    for container in spec.get("containers", ()):
        _add(total, _limits(container))
    peak: dict[str, int] = {}
    for container in spec.get("initContainers", ()):
        if container.get("restartPolicy") == "Always":
            _add(total, _limits(container))
        else:
            peak = {
                name: max(peak.get(name, 0), count)
                for name, count in (peak | _limits(container)).items()
            }
    return {
        name: max(total.get(name, 0), peak.get(name, 0))
        for name in sorted(total.keys() | peak.keys())
    }


def _limits(container: Raw) -> dict[str, int]:
    """For extended resources the limit is the request; a request alone is refused."""
    return extended(container.get("resources", {}).get("limits") or {})


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def pinned_node(pod: Raw) -> str:
    """The node that a pod is pinned to by required affinity on its name, else empty."""
    affinity = pod.get("spec", {}).get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and len(field.get("values", ())) == 1:
                return str(field["values"][0])
    return ""


def holding_node(pod: Raw) -> str:
    """The node whose GPUs a pod holds: where it is bound, else where we planned it; else empty."""
    if pod.get("status", {}).get("phase") in FINISHED:
        return ""
    bound = str(pod.get("spec", {}).get("nodeName") or "")
    return bound or (_planned_node(pod) if is_engine(pod) else "")


def _planned_node(pod: Raw) -> str:
    annotations = pod["metadata"].get("annotations") or {}
    return pinned_node(pod) or str(annotations.get(names.ANNOTATION_PLANNED_NODE, ""))


def is_engine(pod: Raw) -> bool:
    """Whether a pod carries the labels of an engine pod of ours."""
    labels = _labels(pod)
    return names.LABEL_DEPLOYMENT in labels and names.LABEL_TIER in labels


def holds_of(pod: Raw) -> tuple[Hold, ...]:
    """What a pod that is not finished holds, one entry per resource."""
    metadata = pod["metadata"]
    return tuple(
        Hold(
            resource=resource,
            count=count,
            namespace=metadata.get("namespace", ""),
            pod=metadata["name"],
            uid=metadata.get("uid", ""),
            terminating="deletionTimestamp" in metadata,
        )
        for resource, count in requested(pod).items()
        if count
    )


def node_of(node: Raw, holds: Iterable[Hold] = ()) -> Node:
    """A node, with what is held on it."""
    spec = node.get("spec", {})
    allocatable = node.get("status", {}).get("allocatable") or {}
    taints = tuple(
        Taint(taint["key"], taint.get("value", ""), taint["effect"])
        for taint in spec.get("taints") or ()
    )
    return Node(
        name=node["metadata"]["name"],
        labels=dict(_labels(node)),
        taints=taints,
        ready=condition(node, "Ready").get("status") == "True",
        unschedulable=bool(spec.get("unschedulable")),
        allocatable=extended(allocatable),
        cpu_milli=int(1000 * (exact(allocatable.get("cpu")) or 0)),
        memory_bytes=int(exact(allocatable.get("memory")) or 0),
        holds=tuple(holds),
        uid=str(node["metadata"].get("uid", "")),
    )


def nodes_of(nodes: Iterable[Raw], pods: Iterable[Raw]) -> tuple[Node, ...]:
    """Nodes by name, each with the GPUs that the given pods hold on it."""
    held: dict[str, list[Hold]] = {}
    for pod in pods:
        node = holding_node(pod)
        if node:
            held.setdefault(node, []).extend(holds_of(pod))
    ordered = sorted(nodes, key=lambda node: str(node["metadata"]["name"]))
    return tuple(node_of(node, held.get(node["metadata"]["name"], ())) for node in ordered)


def condition(item: Raw, kind: str) -> Raw:
    """One condition of an object's status, empty when it is not there."""
    conditions = item.get("status", {}).get("conditions") or ()
    return next((entry for entry in conditions if entry.get("type") == kind), {})


def replica_of(pod: Raw, owner_uid: str) -> Replica:
    """An engine pod. One that another incarnation of the object left behind is terminating:

    the garbage collector is about to delete it, and until then it keeps its name and its GPUs.
    """
    metadata, status = pod["metadata"], pod.get("status", {})
    labels, annotations = _labels(pod), metadata.get("annotations") or {}
    engine = _engine_status(pod)
    waiting_reason, waiting_message = _waiting(pod)
    gate = condition(pod, names.GATE_VERIFIED)
    resource, gpus = _gpus(pod)
    return Replica(
        name=metadata["name"],
        uid=metadata["uid"],
        tier=labels.get(names.LABEL_TIER, ""),
        revision=labels.get(names.LABEL_REVISION, ""),
        ordinal=_ordinal(metadata["name"]),
        created_at=_time(metadata.get("creationTimestamp")) or 0.0,
        node=pinned_node(pod) or str(pod["spec"].get("nodeName") or ""),
        bound=bool(pod["spec"].get("nodeName")),
        gpus=gpus,
        resource=resource,
        resources=limits.resources_of(pod),
        phase=status.get("phase", "Pending"),
        ip=status.get("podIP", ""),
        container_id=_running_id(engine),
        containers_ready=condition(pod, "ContainersReady").get("status") == "True",
        routable=labels.get(names.LABEL_ROUTABLE) == "true",
        verified={"True": True, "False": False}.get(gate.get("status", "")),
        verified_container=annotations.get(names.ANNOTATION_VERIFIED_CONTAINER, ""),
        verify_reason=gate.get("reason", ""),
        verify_message=gate.get("message", ""),
        terminating="deletionTimestamp" in metadata or not is_owned(pod, owner_uid),
        draining_since=_time(annotations.get(names.ANNOTATION_DRAINING_SINCE)),
        restarts=int(engine.get("restartCount", 0)),
        unschedulable=_unschedulable(pod),
        unschedulable_since=_time(condition(pod, "PodScheduled").get("lastTransitionTime")),
        asks=names.ANNOTATION_ASKS_FOR_NODE in annotations,
        gates=tuple(gate["name"] for gate in pod["spec"].get("schedulingGates") or ()),
        waiting_reason=waiting_reason,
        waiting_message=waiting_message,
        failure=_failure(pod, engine),
        attempt=_number(annotations.get(names.ANNOTATION_ATTEMPT)),
        failed_at=_failed_at(pod, engine),
    )


def revision_of(revision: Raw) -> Revision:
    """A ControllerRevision."""
    labels = _labels(revision)
    return Revision(
        name=revision["metadata"]["name"],
        tier=labels.get(names.LABEL_TIER, ""),
        hash=labels.get(names.LABEL_REVISION, ""),
        number=int(revision.get("revision", 0)),
        data=revision.get("data") or {},
    )


def is_owned(item: Raw, uid: str) -> bool:
    """Whether an object is controlled by the GLMDeployment of that uid.

    What has no namespace says so by a label: an owner reference cannot lead out of it.
    """
    if "namespace" not in item["metadata"] and names.LABEL_OWNER in _labels(item):
        return _labels(item)[names.LABEL_OWNER] == uid
    references = item["metadata"].get("ownerReferences") or ()
    return any(ref.get("controller") and ref.get("uid") == uid for ref in references)


def _time(text: str | None) -> float | None:
    """A time that may be missing, or that a person may have written."""
    try:
        return times.from_text(text) if text else None
    except ValueError:
        return None


def _labels(item: Raw) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _ordinal(name: str) -> int:
    return _number(name.rpartition("-")[2])


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _gpus(pod: Raw) -> tuple[str, int]:
    """The engine pod's extended resource; it asks for one."""
    amounts = requested(pod)
    return next(iter(amounts.items()), ("nvidia.com/gpu", 0))


def _engine_status(pod: Raw) -> Raw:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one["name"] == names.ENGINE_CONTAINER), {})


def _running_id(engine: Raw) -> str:
    running = "running" in (engine.get("state") or {})
    return str(engine.get("containerID", "")) if running else ""


def _waiting(pod: Raw) -> tuple[str, str]:
    """Reason and message of the first container that waits, init containers before the engine.

    The kubelet alternates between a failed pull and its back-off; one reason stands for both, so
    that a status which quotes it is not written anew every time.
    """
    status = pod.get("status", {})
    for one in (*(status.get("initContainerStatuses") or ()), _engine_status(pod)):
        waiting = (one.get("state") or {}).get("waiting")
        if waiting:
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            pulling = reason in ("ErrImagePull", "ImagePullBackOff")
            cause = message.partition(": ErrImagePull: ")[2]
            return ("ImagePullBackOff" if pulling else reason), (cause or message)
    return "", ""


def _unschedulable(pod: Raw) -> str:
    scheduled = condition(pod, "PodScheduled")
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return str(scheduled.get("message", "")) if refused else ""


def _termination(engine: Raw) -> Raw:
    """The present termination of the engine container, else its last one."""
    for state in (engine.get("state"), engine.get("lastState")):
        ended = (state or {}).get("terminated")
        if ended:
            return ended if isinstance(ended, Mapping) else {}
    return {}


def _failure(pod: Raw, engine: Raw) -> str:
    status = pod.get("status", {})
    if status.get("phase") == "Failed" and status.get("reason"):
        return _joined(status["reason"], status.get("message", ""))
    ended = _termination(engine)
    if not ended:
        return "Failed" if status.get("phase") == "Failed" else ""
    what = f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode', 0)}"
    return _joined(what, (ended.get("message") or "").strip())


def _joined(reason: str, message: str) -> str:
    return f"{reason}: {message}" if message else reason


def _failed_at(pod: Raw, engine: Raw) -> float | None:
    if pod.get("status", {}).get("phase") != "Failed":
        return None
    ended = _time(_termination(engine).get("finishedAt"))
    return ended or _time(condition(pod, "Ready").get("lastTransitionTime"))


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """What counts of a PriorityClass."""

    value: int
    is_default: bool
    """Whether pods that name no class have it."""


def priority_class_of(raw: Raw) -> PriorityClass:
    """The planner's view of a PriorityClass."""
    return PriorityClass(int(raw["value"]), bool(raw.get("globalDefault", False)))
