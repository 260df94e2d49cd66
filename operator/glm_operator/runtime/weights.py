"""Ask the pods of weights Jobs how far they are."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glm_operator.manifests.weights import STATE_PORT
from glm_operator.plan.observed import JobPhase, Progress, WeightsJob
from glm_operator.runtime.http import Http, NoAnswerError
from glm_operator.runtime.queue import Key

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 1.5
TICK_SECONDS = 0.2
"""How often is looked for pods that are due."""
TROUBLE_CHARS = 500
TELL_SECONDS = 10.0
"""Bytes move all the time; the object's status is written anew no more often than this."""


@dataclass(slots=True)
class _Pod:
    ip: str
    progress: Progress | None = None
    """As last told to the object's passes."""
    told_at: float = -math.inf
    due_at: float = -math.inf
    """When it is asked next; never while it is being asked."""


@dataclass(slots=True)
class _Watched:
    pods: dict[str, _Pod] = field(default_factory=dict)
    """By the uid of their Job."""


def parse_progress(raw: Any) -> Progress:
    """The answer of a weights pod. Raises ValueError where it is of another shape."""
    try:
        return Progress(
            stage=str(raw["stage"])[:32],
            done_bytes=_count(raw["bytes"]),
            total_bytes=_count(raw["totalBytes"]),
            bytes_per_second=_count(raw["bytesPerSecond"]),
            # An older image, chosen by the platform, tells none.
            trouble=str(raw.get("trouble", ""))[:TROUBLE_CHARS],
        )
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ValueError(f"/state is not of the agreed shape: {error!r}") from error


def _count(value: Any) -> int:
    """A number of bytes that the status can hold."""
    return max(0, min(int(value), 1 << 53))


class WeightsPoller:
    """Keeps what the running weights pods of every object last told.

    Args:
        http: asks pods.
        wake: told of a key that should be passed now.
        monotonic: a clock that never goes back, in seconds.
    """

    def __init__(
        self, http: Http, wake: Callable[[Key], None], *, monotonic: Callable[[], float]
    ) -> None:
        self._http = http
        self._wake = wake
        self._monotonic = monotonic
        self._watched: dict[Key, _Watched] = {}

    def follow(self, key: Key, jobs: Iterable[WeightsJob]) -> None:
        """Ask exactly the pods of these Jobs of an object that run."""
        old = self._watched.get(key, _Watched()).pods
        running = {job.uid: job.ip for job in jobs if job.phase is JobPhase.RUNNING and job.ip}
        pods = {
            uid: old[uid] if uid in old and old[uid].ip == ip else _Pod(ip)
            for uid, ip in running.items()
        }
        if pods:
            self._watched[key] = _Watched(pods)
        else:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """An object is gone, or moves nothing."""
        self._watched.pop(key, None)

    def completed(self, key: Key, jobs: Iterable[WeightsJob]) -> tuple[WeightsJob, ...]:
        """The Jobs of an object with what their pods told."""
        pods: Mapping[str, _Pod] = self._watched.get(key, _Watched()).pods
        return tuple(
            replace(job, progress=pods[job.uid].progress) if job.uid in pods else job
            for job in jobs
        )

    async def run(self) -> None:
        """Poll for ever."""
        async with asyncio.TaskGroup() as polls:
            while True:
                for poll in self.due():
                    _ = polls.create_task(poll)
                await asyncio.sleep(TICK_SECONDS)

    def due(self) -> list[Coroutine[Any, Any, None]]:
        """The polls to be made now; no pod is asked twice at once."""
        now = self._monotonic()
        polls = []
        for key, watched in self._watched.items():
            for pod in watched.pods.values():
                if pod.due_at <= now:
                    pod.due_at = math.inf
                    polls.append(self._poll(key, pod))
        return polls

    async def _poll(self, key: Key, pod: _Pod) -> None:
        asked_at = self._monotonic()
        try:
            self._take(key, pod, await self._ask(pod))
        except (NoAnswerError, ValueError) as error:
            logger.debug("weights pod %s of %s/%s: %s", pod.ip, *key, error)
        except Exception:
            # One pod's answer must not end the polls of all.
            logger.exception("weights pod %s of %s/%s: the poll failed unexpectedly", pod.ip, *key)
        pod.due_at = asked_at + POLL_SECONDS

    async def _ask(self, pod: _Pod) -> Progress:
        host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
        status, raw = await self._http.get(f"http://{host}:{STATE_PORT}/state", TIMEOUT_SECONDS)
        if status != 200:
            raise ValueError(f"/state answered {status}")
        return parse_progress(raw)

    def _take(self, key: Key, pod: _Pod, now: Progress) -> None:
        """Tell what is new; of bytes alone only now and then: a status is written for it."""
        before = pod.progress
        turned = before is None or _turns(before, now)
        moved = before != now and self._monotonic() - pod.told_at >= TELL_SECONDS
        if turned or moved:
            pod.progress, pod.told_at = now, self._monotonic()
            self._wake(key)


def _turns(before: Progress, now: Progress) -> bool:
    """Whether the stage is another, the rate has become known, or trouble begins or ends."""
    begins = not before.bytes_per_second and bool(now.bytes_per_second)
    return begins or before.stage != now.stage or bool(before.trouble) != bool(now.trouble)
