"""Ask engines what they must answer before they may serve, and set their readiness gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names, reasons
from glm_operator.kube import convert
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import ConflictError, KubeError, NotFoundError
from glm_operator.kube.resources import POD
from glm_operator.kube.retry import VERIFICATIONS, Backoff, Random
from glm_operator.plan import times
from glm_operator.plan.observed import Replica
from glm_operator.runtime.checks import Check, Verdict, checks, judge, steered
from glm_operator.runtime.http import Http, NoAnswerError
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.queue import Key

logger = logging.getLogger(__name__)

CALL_SECONDS = 120.0
"""One check. The first image compiles kernels on some GPUs, which takes most of a minute."""
CONCURRENT = 8

STATUS_TRIES = 6
STATUS_SECONDS = 1.0
"""How often, and how far apart, a pod is read for the end of its container."""
MESSAGE_LIMIT = 1024
SERVER_ERROR = 500
"""From this status on the fault is the engine's; vLLM answers so when its core has died."""

RESTART_SENTENCE = "the engine container is not the one that was checked"


@dataclass(frozen=True, slots=True)
class Target:
    """An engine to check."""

    key: Key
    replica: Replica
    served_name: str
    sees: bool = True
    """Whether its model takes images, which it is then asked about."""

    def url(self, path: str) -> str:
        """Where the engine answers a path."""
        ip = self.replica.ip
        host = f"[{ip}]" if ":" in ip else ip
        return f"http://{host}:{names.ENGINE_PORT}{path}"


@dataclass(slots=True)
class _Pod:
    key: Key
    failures: int = 0
    not_before: float = 0.0


class Verifier:
    """Checks engines, a bounded number at a time, each container once at a time.

    Args:
        cluster: the API server.
        http: asks engines.
        again: told to look at a key after so many seconds, when a check has to be repeated.
        metrics: counts results.
        wall: seconds since the epoch.
        random: returns a number in [0, 1).
    """

    def __init__(
        self,
        cluster: Cluster,
        http: Http,
        again: Callable[[Key, float], None],
        metrics: Metrics,
        *,
        wall: Callable[[], float],
        random: Random,
        backoff: Backoff = VERIFICATIONS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._http = http
        self._again = again
        self._metrics = metrics
        self._wall = wall
        self._random = random
        self._backoff = backoff
        self._sleep = sleep
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._pods: dict[str, _Pod] = {}

    def offer(self, target: Target) -> None:
        """Check an engine, unless that is under way or failed a moment ago."""
        uid = target.replica.uid
        pod = self._pods.setdefault(uid, _Pod(target.key))
        if uid in self._running or not target.replica.ip or self._wall() < pod.not_before:
            return
        task = asyncio.create_task(self._verify(target, pod), name=f"verify {target.replica.name}")
        self._running[uid] = task
        task.add_done_callback(lambda done: self._ended(uid, done))

    def keep(self, key: Key, uids: Iterable[str]) -> None:
        """Forget the pods of an object that are not among these."""
        kept = set(uids)
        for uid in [uid for uid, pod in self._pods.items() if pod.key == key and uid not in kept]:
            del self._pods[uid]

    async def void(self, key: Key, replica: Replica) -> None:
        """Clear the gate of a pod whose engine container is not the one that was checked."""
        last = f" ({replica.failure})" if replica.failure else ""
        verdict = _failed(reasons.CONTAINER_RESTARTED, f"{RESTART_SENTENCE}{last}")
        try:
            await self._write(key, replica, verdict)
        except (NotFoundError, ConflictError):
            logger.info("pod %s is gone, and its gate with it", replica.name)

    async def close(self) -> None:
        """Stop all checks; what was not written is checked again by the next process."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _verify(self, target: Target, pod: _Pod) -> None:
        try:
            async with self._slots:
                verdict = await self._run_checks(target)
            await self._write(target.key, target.replica, verdict)
        except (NotFoundError, ConflictError):
            logger.info("pod %s is gone, nothing to verify", target.replica.name)
            return
        except KubeError as error:
            verdict = _failed(reasons.NO_ANSWER, str(error))
            logger.warning("verifying %s: %s", target.replica.name, error)
        self._metrics.verifications.labels(target.replica.tier, verdict.reason).inc()
        self._schedule(target, pod, verdict)

    def _schedule(self, target: Target, pod: _Pod, verdict: Verdict) -> None:
        if verdict.ok:
            pod.failures, pod.not_before = 0, 0.0
            return
        logger.warning("%s is not verified: %s", target.replica.name, verdict.message)
        pod.failures += 1
        delay = self._backoff.delay(pod.failures, self._random)
        pod.not_before = self._wall() + delay
        self._again(target.key, delay)

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._running.pop(uid, None)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a verification ended unexpectedly", exc_info=task.exception())

    async def _run_checks(self, target: Target) -> Verdict:
        """The first check that fails, or that all passed."""
        for check in checks(target.served_name, target.sees):
            try:
                asked = await self._steered(target, check) if check.literal else check
                url = target.url("/v1/chat/completions")
                status, answer = await self._http.post(url, asked.body, CALL_SECONDS)
            except NoAnswerError as error:
                sentence = f"the {check.name} check failed: {error}"
                return await self._doubted(target, check, _failed(reasons.NO_ANSWER, sentence))
            verdict = judge(check, status, answer)
            if status >= SERVER_ERROR:
                return await self._doubted(target, check, verdict)
            if not verdict.ok:
                return verdict
        sentence = f"checked by tool calls: {target.replica.container_id}"
        return Verdict(True, reasons.VERIFIED, sentence)

    async def _steered(self, target: Target, check: Check) -> Check:
        """The check, with its literal output preferred in the engine's own tokens."""
        answers = []
        for text in (check.literal, "\n"):
            body = {"model": target.served_name, "prompt": text, "add_special_tokens": False}
            _, answer = await self._http.post(target.url("/tokenize"), body, CALL_SECONDS)
            answers.append(answer)
        return steered(check, *answers)

    async def _doubted(self, target: Target, check: Check, verdict: Verdict) -> Verdict:
        """A failure of the server itself: that the engine ended, if it did, else as judged."""
        for _ in range(STATUS_TRIES):
            raw = await self._cluster.get(POD, target.key[0], target.replica.name)
            now = convert.replica_of(raw, "")
            if now.uid != target.replica.uid:
                raise ConflictError(f"pod {now.name} was replaced")
            if now.container_id != target.replica.container_id:
                ended = now.failure or "no termination is recorded"
                sentence = f"the engine ended during the {check.name} check: {ended}"
                return _failed(reasons.ENGINE_DIED, sentence)
            # The last answer comes before the end, and the kubelet tells of it later still.
            await self._sleep(STATUS_SECONDS)
        return verdict

    async def _write(self, key: Key, replica: Replica, verdict: Verdict) -> None:
        """Set the gate, and name the container, in one patch; nothing when it says so already."""
        said = (replica.verified, replica.verify_reason, replica.verify_message)
        same_container = replica.verified_container == replica.container_id
        if said == (verdict.ok, verdict.reason, verdict.message) and same_container:
            return
        entry = {
            "type": names.GATE_VERIFIED,
            "status": "True" if verdict.ok else "False",
            "reason": verdict.reason,
            "message": verdict.message[:MESSAGE_LIMIT],
        }
        if replica.verified is not verdict.ok:
            entry["lastTransitionTime"] = times.to_text(self._wall())
        annotations = {names.ANNOTATION_VERIFIED_CONTAINER: replica.container_id}
        body: Mapping[str, Any] = {
            "metadata": {"uid": replica.uid, "annotations": annotations},
            "status": {"conditions": [entry]},
        }
        await self._cluster.patch_pod_status(key[0], replica.name, body)


def _failed(reason: str, message: str) -> Verdict:
    return Verdict(False, reason, message)
