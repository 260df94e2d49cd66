"""Admission, queueing and pace of the simulated engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from glm_dev.simulator.answers import Answer
from glm_dev.simulator.errors import BUSY, ApiError
from glm_dev.simulator.metrics import Metrics
from glm_dev.simulator.request import Generation
from glm_dev.simulator.settings import Behaviour, Settings

ABORT = "abort"
LONG_PAUSE_SECONDS = 0.1
"""A longer pause is cut short by an abort; a shorter one is waited out, which costs less."""


class Aborted(Exception):
    """The engine is shutting down: the request ends here with finish reason `abort`."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request in the queue."""

    tokens: int
    admitted: asyncio.Event = field(default_factory=asyncio.Event)


class Engine:
    """Runs at most `--max-num-seqs` generations whose tokens fit the key-value cache."""

    def __init__(self, settings: Settings, behaviour: Behaviour, metrics: Metrics) -> None:
        self.settings = settings
        self.behaviour = behaviour
        self.metrics = metrics
        self.running = 0
        self._kv_used = 0
        self._queue: deque[Waiting] = deque()
        self._closing = asyncio.Event()
        self._abort = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def gauges(self) -> dict[str, float]:
        """What `/metrics` shows of this moment."""
        return {
            "num_requests_running": float(self.running),
            "num_requests_waiting": float(len(self._queue)),
            "kv_cache_usage_perc": min(1.0, self._kv_used / self.behaviour.kv_tokens),
        }

    async def drain(self, seconds: float) -> None:
        """Refuse new work, let the rest finish for so many seconds, then abort it."""
        self._closing.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        self._abort.set()
        for entry in self._queue:
            entry.admitted.set()
        await self._idle.wait()

    async def generate(self, request: Generation, answer: Answer) -> AsyncGenerator[int, None]:
        """Yield the index of each token at the time it is written.

        Raises ApiError when the queue is full and Aborted when the engine shuts down; a consumer
        that stops early counts as an abort, as a client that hangs up does in vLLM.
        """
        self._admit()
        arrived = time.monotonic()
        entry = Waiting(request.prompt.tokens + answer.tokens)
        self._queue.append(entry)
        self._idle.clear()
        reason = ABORT
        try:
            self._start_next()
            await entry.admitted.wait()
            self._check_abort()
            started = time.monotonic()
            self.metrics.observe("request_queue_time_seconds", started - arrived)
            async for index in self._decode(request, answer, arrived, started):
                yield index
            reason = answer.finish if answer.finish != "tool_calls" else "stop"
        finally:
            self.metrics.finished(reason)
            self._release(entry)

    def _admit(self) -> None:
        if self._closing.is_set():
            raise Aborted
        limit = self.settings.max_num_queued_reqs
        if limit is not None and self.running + len(self._queue) + 1 > limit:
            self.metrics.rejected("max_num_queued_reqs")
            raise ApiError.plain(503, BUSY)

    def _start_next(self) -> None:
        while self._queue and self.running < self.settings.max_num_seqs:
            entry = self._queue[0]
            fits = self._kv_used + entry.tokens <= self.behaviour.kv_tokens
            if not fits and self.running:
                return
            self._queue.popleft()
            self.running += 1
            self._kv_used += entry.tokens
            entry.admitted.set()

    def _release(self, entry: Waiting) -> None:
        if entry in self._queue:
            self._queue.remove(entry)
        else:
            self.running -= 1
            self._kv_used -= entry.tokens
        self._start_next()
        if not self.running and not self._queue:
            self._idle.set()

    async def _decode(
        self, request: Generation, answer: Answer, arrived: float, started: float
    ) -> AsyncGenerator[int, None]:
        prompt = request.prompt.tokens
        self.metrics.add("prompt_tokens", prompt)
        self.metrics.add("prompt_tokens_by_source", prompt, ("source", "local_compute"))
        self.metrics.add("prefix_cache_queries", prompt)
        self.metrics.add("mm_cache_queries", request.prompt.images)
        await self._pause(self._first_token_seconds(prompt))
        first = last = time.monotonic()
        self.metrics.observe("time_to_first_token_seconds", first - arrived)
        for index in range(answer.tokens):
            if index:
                await self._pause(self.behaviour.inter_token_ms / 1000)
                now = time.monotonic()
                self.metrics.observe("inter_token_latency_seconds", now - last)
                last = now
            self.metrics.add("generation_tokens", 1)
            yield index
        self._observe_end(request, answer, arrived, started, first)

    def _first_token_seconds(self, prompt_tokens: int) -> float:
        rate = self.behaviour.prefill_tokens_per_second
        return self.behaviour.first_token_ms / 1000 + (prompt_tokens / rate if rate else 0.0)

    def _observe_end(
        self, request: Generation, answer: Answer, arrived: float, started: float, first: float
    ) -> None:
        now, observe = time.monotonic(), self.metrics.observe
        observe("e2e_request_latency_seconds", now - arrived)
        observe("request_prefill_time_seconds", first - started)
        observe("request_decode_time_seconds", now - first)
        observe("request_inference_time_seconds", now - started)
        observe("request_prompt_tokens", request.prompt.tokens)
        observe("request_generation_tokens", answer.tokens)
        observe("request_max_num_generation_tokens", answer.tokens)
        observe("request_prefill_kv_computed_tokens", request.prompt.tokens)
        observe("request_params_n", 1)
        observe("request_num_preemptions", 0)
        if answer.tokens > 1:
            per_token = (now - first) / (answer.tokens - 1)
            observe("request_time_per_output_token_seconds", per_token)
        if request.max_tokens is not None:
            observe("request_params_max_tokens", request.max_tokens)

    async def _pause(self, seconds: float) -> None:
        if seconds > LONG_PAUSE_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._abort.wait(), seconds)
        else:
            await asyncio.sleep(seconds)
        self._check_abort()

    def _check_abort(self) -> None:
        if self._abort.is_set():
            raise Aborted
