"""Jobs of the API server and their pods to the planner's view of weights Jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.manifests.weights import CONTAINER
from glm_operator.manifests.weights_task import WeightsTask
from glm_operator.plan import times
from glm_operator.plan.observed import JobPhase, WeightsJob

Raw = Mapping[str, Any]
LABEL_JOB = "batch.kubernetes.io/job-name"
"""Set by the Job's controller on its pods."""
LABEL_COMPONENT = "app.kubernetes.io/component"
COMPONENT = "weights"
CREATING = ("", "ContainerCreating", "PodInitializing")
"""Waiting reasons that say nothing is wrong yet."""


def is_weights(pod: Raw) -> bool:
    """Whether a pod is one of a weights Job."""
    return bool((pod["metadata"].get("labels") or {}).get(LABEL_COMPONENT) == COMPONENT)


def weights_jobs(jobs: Iterable[Raw], pods: Iterable[Raw], uid: str) -> tuple[WeightsJob, ...]:
    """The weights Jobs of the object of a uid. A Job whose task cannot be read is not ours."""
    by_job: dict[str, list[Raw]] = {}
    for pod in pods:
        if is_weights(pod):
            by_job.setdefault(pod["metadata"]["labels"].get(LABEL_JOB, ""), []).append(pod)
    owned = (job for job in jobs if convert.is_owned(job, uid))
    found = (_job(job, by_job.get(job["metadata"]["name"], ())) for job in owned)
    return tuple(job for job in found if job is not None)


def _job(job: Raw, pods: Sequence[Raw]) -> WeightsJob | None:
    metadata = job["metadata"]
    task = _task(metadata)
    if task is None:
        return None
    newest = max(pods, key=lambda one: str(one["metadata"]["creationTimestamp"]), default={})
    told = _result(newest)
    phase = _phase(job, newest)
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
        finished_at=_finished_at(job),
        blocked=_blocked(newest) if phase is JobPhase.WAITING else "",
        reason=str(told.get("reason", "")) if failed else "",
        message=(_text(told) or _failure(job, newest)) if failed else "",
        bytes=_whole(told.get("bytes")),
        facts=told["facts"] if isinstance(told.get("facts"), dict) else None,
        terminating="deletionTimestamp" in metadata,
    )


def _task(metadata: Raw) -> WeightsTask | None:
    note = (metadata.get("annotations") or {}).get(names.ANNOTATION_TASK, "")
    try:
        return WeightsTask.from_data(json.loads(note))
    except (ValueError, KeyError, TypeError):
        return None


def _phase(job: Raw, pod: Raw) -> JobPhase:
    if convert.condition(job, "Complete").get("status") == "True":
        return JobPhase.DONE
    if convert.condition(job, "Failed").get("status") == "True":
        return JobPhase.FAILED
    state = _container(pod).get("state") or {}
    return JobPhase.RUNNING if "running" in state else JobPhase.WAITING


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
