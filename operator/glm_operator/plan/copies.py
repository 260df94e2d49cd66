"""How far the weights of each tier are at each place, for status, events and conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from glm_operator.api import reasons
from glm_operator.manifests.weights_task import TaskKind
from glm_operator.plan import times
from glm_operator.plan.fetches import Fetches, TierTask
from glm_operator.plan.observed import JobPhase
from glm_operator.plan.reading import job_reason
from glm_operator.plan.scene import Scene

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class CopyState(StrEnum):
    """How far weights are at one place."""

    WAITING = "Waiting"
    """The Job has not started yet."""
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    READY = "Ready"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Copy:
    """The weights of a tier at one place."""

    tier: str
    place: str
    """A node, or a claim."""
    state: CopyState
    uri: str
    bytes: int = 0
    total_bytes: int = 0
    bytes_per_second: int = 0
    reason: str = ""
    """Of the catalogue, where something is wrong."""
    message: str = ""
    """What is wrong, as a sentence without its full stop."""
    retry_at: float | None = None

    @property
    def remaining_seconds(self) -> int:
        """Until all bytes are there at the present rate; 0: unknown."""
        missing = self.total_bytes - self.bytes
        return -(-missing // self.bytes_per_second) if self.bytes_per_second else 0

    def sentence(self) -> str:
        """The state in words, without a full stop."""
        match self.state:
            case CopyState.READY:
                size = f" ({_size(self.bytes)})" if self.bytes else ""
                return f"{self.uri} is complete on {self.place}{size}"
            case CopyState.FAILED:
                return f"{self.uri} on {self.place}: {self.message}"
            case CopyState.VERIFYING:
                return f"{self.uri} is verified on {self.place}"
            case CopyState.WAITING | CopyState.FETCHING:
                return self._moving()

    def _moving(self) -> str:
        if self.message:
            where = f"{self.uri} on {self.place}"
            return f"{where} waits{self._figures()}: {self.message}"
        return f"{self.uri} is fetched to {self.place}{self._figures()}"

    def _figures(self) -> str:
        if not self.total_bytes:
            return ""
        rate = f", {_size(self.bytes_per_second)}/s" if self.bytes_per_second else ""
        left = f", {self.remaining_seconds} s left" if self.remaining_seconds else ""
        return f" ({_size(self.bytes)} of {_size(self.total_bytes)}{rate}{left})"

    def data(self) -> dict[str, Any]:
        """The entry of the status."""
        return {
            "place": self.place,
            "state": self.state.value,
            "bytes": self.bytes,
            "totalBytes": self.total_bytes,
            "bytesPerSecond": self.bytes_per_second,
            "remainingSeconds": self.remaining_seconds,
            "message": self.message,
        }


def copies(scene: Scene, wanted: Fetches) -> list[Copy]:
    """Every place that should hold weights, by tier and name."""
    told = [(one, _copy(scene, one)) for one in wanted.tasks if one.task.kind is not TaskKind.READ]
    # What failed where nothing is to run any more is nobody's trouble.
    found = (copy for one, copy in told if one.wanted or not copy.reason)
    return sorted(found, key=lambda one: (one.tier, one.place))


def _copy(scene: Scene, wanted: TierTask) -> Copy:
    tier, uri, job = wanted.tier, wanted.task.uri, scene.stock.job(wanted.task)
    place = wanted.task.node or wanted.task.claim
    if job is None or job.task != wanted.task:
        return Copy(tier, place, CopyState.WAITING, uri)
    if scene.stock.is_done(job.task):
        return Copy(tier, place, CopyState.READY, uri, job.bytes, job.bytes)
    if job.phase is JobPhase.FAILED:
        again = scene.stock.retry_at(job.task)
        when = f"; tried again at {times.to_text(again)}" if again is not None else ""
        message = f"{job.message.rstrip('.')}{when}"
        return Copy(tier, place, CopyState.FAILED, uri, 0, 0, 0, job_reason(job), message, again)
    blocked = scene.stock.blocked(job).rstrip(".")
    reason = reasons.WEIGHTS_JOB_BLOCKED if blocked else ""
    if job.phase is JobPhase.WAITING or job.progress is None:
        return Copy(tier, place, CopyState.WAITING, uri, reason=reason, message=blocked)
    told = job.progress
    state = CopyState.VERIFYING if told.stage == "Verifying" else CopyState.FETCHING
    bytes_, trouble = (told.done_bytes, told.total_bytes), told.trouble.rstrip(".")
    reason = reasons.HUB_UNREACHABLE if trouble else ""
    return Copy(tier, place, state, uri, *bytes_, told.bytes_per_second, reason, trouble)


def _size(number: int) -> str:
    """A number of bytes for people."""
    for unit, name in _UNITS:
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"


def stored_copies(scene: Scene) -> Iterator[Mapping[str, Any]]:
    """The entries of the stored status, each with its tier."""
    tiers: Mapping[str, Any] = scene.observed.status.get("tiers") or {}
    for tier, part in tiers.items():
        weights: Mapping[str, Any] = (part or {}).get("weights") or {}
        for entry in weights.get("copies") or ():
            yield {"tier": tier, **entry}
