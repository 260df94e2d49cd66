"""Jobs of the API server and their pods to the planner's view of weights Jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.manifests.weights import CONTAINER
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan import times
from glm_operator.plan.observed import JobPhase, WeightsJob

Raw = Mapping[str, Any]
CREATING = ("", "ContainerCreating", "PodInitializing")
"""Waiting reasons that say nothing is wrong yet."""


def weights_jobs(jobs: Iterable[Raw], pods: Sequence[Raw], uid: str) -> tuple[WeightsJob, ...]:
    """The weights Jobs of the object of a uid. A Job whose task cannot be read is not ours.

    Anybody in the namespace may label a pod: those of a Job are the ones that it controls.
    """
    owned = (job for job in jobs if convert.is_owned(job, uid))
    found = (_job(job, _pods_of(job, pods)) for job in owned)
    return tuple(job for job in found if job is not None)


def _pods_of(job: Raw, pods: Iterable[Raw]) -> list[Raw]:
    return [pod for pod in pods if convert.is_owned(pod, job["metadata"]["uid"])]


def _job(job: Raw, pods: Sequence[Raw]) -> WeightsJob | None:
    metadata = job["metadata"]
    task = _task(metadata)
    if task is None:
        return None
    newest = max(pods, key=lambda one: str(one["metadata"]["creationTimestamp"]), default={})
    told = _result(newest)
    phase = _phase(job, newest)
    if phase is JobPhase.DONE and task.kind is TaskKind.READ and _facts(told) is None:
        # Its pod was removed before anybody looked: it has to be read again.
        phase, told = JobPhase.FAILED, {"message": "what it read is lost with its pod"}
    failed = phase is JobPhase.FAILED
    return WeightsJob(
        name=metadata["name"],
        uid=metadata["uid"],
        task=task,
        created_at=times.from_text(metadata["creationTimestamp"]),
        phase=phase,
        pod=newest.get("metadata", {}).get("name", ""),
        node=str(newest.get("spec", {}).get("nodeName") or ""),
        ip=newest.get("status", {}).get("podIP", "") if phase is JobPhase.RUNNING else "",
        waiting_since=_waiting_since(job, newest) if phase is JobPhase.WAITING else None,
        finished_at=_finished_at(job),
        blocked=_blocked(newest) if phase is JobPhase.WAITING else "",
        reason=str(told.get("reason", "")) if failed else "",
        message=(_text(told) or _failure(job, newest)) if failed else "",
        bytes=_whole(told.get("bytes")),
        facts=_facts(told),
        terminating="deletionTimestamp" in metadata,
    )


def _task(metadata: Raw) -> WeightsTask | None:
    note = (metadata.get("annotations") or {}).get(names.ANNOTATION_TASK, "")
    try:
        return WeightsTask.from_data(json.loads(note))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _phase(job: Raw, pod: Raw) -> JobPhase:
    if convert.condition(job, "Complete").get("status") == "True":
        return JobPhase.DONE
    if convert.condition(job, "Failed").get("status") == "True":
        return JobPhase.FAILED
    state = _container(pod).get("state") or {}
    return JobPhase.RUNNING if "running" in state else JobPhase.WAITING


def _waiting_since(job: Raw, pod: Raw) -> float | None:
    """Since when a pod is to start, or to be made; None while the Job waits before another one."""
    if "terminated" in (_container(pod).get("state") or {}):
        return None
    return times.from_text((pod or job)["metadata"]["creationTimestamp"])


def _finished_at(job: Raw) -> float | None:
    ended = (convert.condition(job, kind) for kind in ("Complete", "Failed"))
    told = (one.get("lastTransitionTime") for one in ended if one.get("status") == "True")
    return next((times.from_text(text) for text in told if text), None)


def _container(pod: Raw) -> Raw:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((one for one in statuses if one.get("name") == CONTAINER), {})


def _result(pod: Raw) -> Raw:
    """What the container left as its last words; empty where that is no JSON object."""
    ended = (_container(pod).get("state") or {}).get("terminated") or {}
    try:
        told = json.loads(ended.get("message") or "")
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _facts(told: Raw) -> dict[str, Any] | None:
    facts = told.get("facts")
    return facts if isinstance(facts, dict) else None


def _text(told: Raw) -> str:
    message = told.get("message")
    return message[:1000] if isinstance(message, str) else ""


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _failure(job: Raw, pod: Raw) -> str:
    """Why a Job failed whose container told nothing."""
    ended = (_container(pod).get("state") or {}).get("terminated") or {}
    if ended:
        what = f"{ended.get('reason', 'Error')}, exit code {ended.get('exitCode', 0)}"
        return f"pod {pod['metadata']['name']} ended with {what}"
    return str(convert.condition(job, "Failed").get("message", "")) or "its pods failed"


def _blocked(pod: Raw) -> str:
    """Why a pod does not start, in the words of the scheduler or the kubelet; empty: it will."""
    scheduled = convert.condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return str(scheduled.get("message", ""))
    waiting = (_container(pod).get("state") or {}).get("waiting") or {}
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in CREATING:
        return ""
    return f"{reason}: {message}" if message else reason
