"""What is known of a tier's checkpoint before anything of it is begun."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import reasons
from glm_operator.api.enums import PrePull, WeightsCache
from glm_operator.api.tier import AnyTier
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Defaults, JobPhase, Node, WeightsJob
from glm_operator.plan.placement import Constraints, node_refusal
from glm_operator.plan.stock import CLAIM_PATH, HUB, NODE_PATH, Stock

COMMIT = r"[0-9a-f]{40}"
JOB_REASONS = (
    reasons.TOKEN_REFUSED,
    reasons.CHECKPOINT_NOT_FOUND,
    reasons.HUB_UNREACHABLE,
    reasons.FILE_MISSING,
    reasons.FILE_DAMAGED,
    reasons.DISK_TOO_SMALL,
    reasons.CHECKPOINT_UNREADABLE,
)
"""What a weights Job may give as its reason."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of a checkpoint, or what has to be done to know it."""

    task: WeightsTask | None = None
    """The Job that reads it; None: there is nothing to read, or nothing to read with."""
    facts: Mapping[str, Any] | None = None
    """What the checkpoint is; None: unknown, or the object asks to believe the preset."""
    commit: str = ""
    """What the revision was resolved to; empty: unknown."""
    lacks: str = ""
    """Why nothing may be begun, as a sentence after the tier's name; empty: all is known."""
    reason: str = ""
    """Of the catalogue, for `lacks`."""
    retry_at: float | None = None
    """When a failed Job is tried again."""


def read(
    spec: AnyTier, stock: Stock, kinds: Kinds, constraints: Constraints, defaults: Defaults
) -> Reading:
    """What is known of the checkpoint of a tier that has no record yet."""
    refused = refusal(spec.model.uri, spec.weights.cache, defaults)
    if refused is not None:
        return refused
    if not _is_read(spec):
        return Reading(commit=spec.model.revision)
    task = _task(spec, kinds, constraints)
    if task is None:
        return Reading()
    job = stock.job(task)
    if job is not None and job.phase is JobPhase.DONE and job.facts is not None:
        believed = spec.weights.pre_pull is PrePull.DISABLED
        commit = str(job.facts.get("commit", ""))
        return Reading(job.task, None if believed else job.facts, commit)
    lacks, reason = _wait(spec, job, "" if job is None else stock.blocked(job))
    return Reading(stock.due(task), None, "", lacks, reason, stock.retry_at(task))


def refusal(uri: str, cache: str, defaults: Defaults) -> Reading | None:
    """What the platform does not allow; None: it allows such weights.

    Args:
        uri: the address of the checkpoint.
        cache: where a copy of it is kept, one of WeightsCache.
        defaults: what the platform allows.
    """
    path = uri.removeprefix(NODE_PATH)
    if path != uri and not any(_is_below(path, one) for one in defaults.node_paths):
        allowed = ", ".join(defaults.node_paths) or "none"
        lacks = (
            f"names the folder {path} of its nodes in model.uri, and the platform allows {allowed}"
            " (weights.nodePaths of the chart): use hf:// or pvc://, or ask for this folder"
        )
        return Reading(lacks=lacks, reason=reasons.NODE_PATH_NOT_ALLOWED)
    local = uri.startswith(HUB) and cache == WeightsCache.NODE_LOCAL
    if local and not defaults.node_local:
        lacks = (
            "asks for weights.cache NodeLocal, and the platform keeps no weights on its nodes"
            " (weights.nodeLocal.enabled of the chart): use PersistentVolumeClaim or Ephemeral"
        )
        return Reading(lacks=lacks, reason=reasons.NODE_CACHE_DISABLED)
    return None


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _is_read(spec: AnyTier) -> bool:
    """Whether a Job reads the checkpoint: to size it, or to know which commit to fetch."""
    if not spec.model.uri.startswith((HUB, CLAIM_PATH, NODE_PATH)):
        return False
    if spec.weights.pre_pull is PrePull.ENABLED:
        return True
    known = re.fullmatch(COMMIT, spec.model.revision) is not None
    fetched = spec.weights.cache is not WeightsCache.EPHEMERAL
    return spec.model.uri.startswith(HUB) and fetched and not known


def _task(spec: AnyTier, kinds: Kinds, constraints: Constraints) -> WeightsTask | None:
    """The Job that reads the checkpoint; None where no node could show its folder."""
    model, secret = spec.model, spec.weights.secret_ref
    if not model.uri.startswith(NODE_PATH):
        claim = _claim(model.uri)
        return WeightsTask(TaskKind.READ, model.uri, model.revision, secret=secret, claim=claim)
    node = _first_node(kinds, constraints)
    if node is None:
        return None
    return WeightsTask(TaskKind.READ, model.uri, node=node.name, node_uid=node.uid)


def _claim(uri: str) -> str:
    """The claim that is read, of a pvc:// address."""
    return uri.removeprefix(CLAIM_PATH).partition("/")[0] if uri.startswith(CLAIM_PATH) else ""


def _first_node(kinds: Kinds, constraints: Constraints) -> Node | None:
    """The first node, by name, on which a replica might come to run."""
    groups = kinds.alike(constraints)
    accepted = (group for group in groups if not node_refusal(group[0], constraints))
    offering = (node for group in accepted for node in group)
    fine = (one for one in offering if one.ready and one.allocatable.get(constraints.resource))
    return min(fine, key=lambda one: one.name, default=None)


def _wait(spec: AnyTier, job: WeightsJob | None, blocked: str) -> tuple[str, str]:
    """Why the tier waits for its checkpoint to be read, and the reason."""
    uri = spec.model.uri
    waits = f"waits until its checkpoint {uri} is read"
    if job is None:
        return waits, reasons.READING_CHECKPOINT
    if job.phase is JobPhase.FAILED:
        return f"cannot begin: {job.message.rstrip('.')}", job_reason(job)
    if blocked:
        lacks = f"{waits}, and {job.name} cannot start: {blocked.rstrip('.')}"
        return lacks, reasons.WEIGHTS_JOB_BLOCKED
    trouble = "" if job.progress is None else job.progress.trouble.rstrip(".")
    if trouble:
        # Only what the hub may still mend is tried again within a Job.
        return f"{waits}, which does not go on: {trouble}", reasons.HUB_UNREACHABLE
    return waits, reasons.READING_CHECKPOINT


def job_reason(job: WeightsJob) -> str:
    """The catalogue's reason of a Job that failed."""
    return job.reason if job.reason in JOB_REASONS else reasons.WEIGHTS_JOB_FAILED
