"""One replica at the level of engine steps: prefill in chunks, decode in batches.

The model and its constants: a step takes a fixed time, a time per running sequence and token of
context, and a time per token of prompt and of image that it prefills (roofline of a 9B model on
one H100, as vLLM schedules). It is independent of the cost model of the scaling law.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

LEAP_STEPS = 8
"""Decode steps that are taken at once while no prompt waits: an arrival waits for their end."""
UNFINISHED = -1.0


@dataclass(frozen=True, slots=True)
class Hardware:
    """How long steps take, in seconds, and what fits."""

    base: float = 0.010
    """A step with nothing in it: the weights are read once."""
    per_sequence: float = 30e-6
    per_context_token: float = 20e-9
    per_prompt_token: float = 42e-6
    """Text and image tokens alike."""
    per_image_token: float = 16e-6
    """The encoder's share, on top of the prompt's."""
    chunk_tokens: int = 2048
    max_sequences: int = 128
    context_tokens: int = 1_000_000


@dataclass(slots=True, eq=False)
class Request:
    """One request and what became of it. Times are seconds of the simulation."""

    arrived: float
    text: int
    images: int
    """Image tokens."""
    output: int
    first: float = UNFINISHED
    finished: float = UNFINISHED
    lost: bool = False
    """Refused, given up, or its replica died."""

    @property
    def prompt(self) -> int:
        """All prompt tokens."""
        return self.text + self.images


class Engine:
    """A replica that is ready. `begin` starts what runs next, `end` accounts for it."""

    __slots__ = (
        "_hardware",
        "_joining",
        "_leap",
        "_rest",
        "_serial",
        "_step",
        "context",
        "images_done",
        "output_done",
        "prompt_done",
        "queue",
        "running",
    )

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self.queue: deque[Request] = deque()
        """Requests without a first token, the oldest first."""
        self.running: list[tuple[int, int, Request]] = []
        """A heap of (step of the last token, serial, request)."""
        self.context = 0
        """Tokens in the KV cache."""
        self.prompt_done = self.images_done = self.output_done = 0
        """Tokens since the engine started, as vLLM's counters."""
        self._rest = 0
        """Tokens of the first prompt that are not prefilled yet; 0: it is not begun."""
        self._step, self._serial, self._leap = 0, 0, 0
        self._joining: list[Request] = []

    @property
    def in_flight(self) -> int:
        """Requests that are not finished."""
        return len(self.queue) + len(self.running) + len(self._joining)

    def begin(self) -> float:
        """Start the next step or leap; returns its seconds, 0 where there is nothing to do."""
        hardware, batch = self._hardware, len(self.running)
        tokens, images = self._admit(hardware.chunk_tokens)
        if not tokens and not batch:
            return 0.0
        until = self.running[0][0] - self._step if batch else 1
        self._leap = 1 if tokens else max(1, min(LEAP_STEPS, until))
        decode = batch * hardware.per_sequence + self.context * hardware.per_context_token
        prefill = tokens * hardware.per_prompt_token + images * hardware.per_image_token
        return self._leap * (hardware.base + decode) + prefill

    def _admit(self, room: int) -> tuple[int, int]:
        """Take prompts up to a chunk; returns tokens and image tokens (whole, at their begin)."""
        tokens = images = 0
        while self.queue and tokens < room:
            first = self.queue[0]
            if not self._rest:
                if not self._fits(first):
                    break
                self._rest = first.prompt
                images += first.images
            part = min(self._rest, room - tokens)
            tokens += part
            self._rest -= part
            if self._rest:
                break
            self._joining.append(self.queue.popleft())
            self.context += first.prompt
        return tokens, images

    def _fits(self, request: Request) -> bool:
        hardware = self._hardware
        seats = len(self.running) + len(self._joining) < hardware.max_sequences
        need = request.prompt + request.output
        alone = not self.running and not self._joining
        return seats and (alone or self.context + need <= hardware.context_tokens)

    def end(self, now: float) -> list[Request]:
        """Account for what `begin` started; returns the requests that finished."""
        self.output_done += self._leap * len(self.running) + len(self._joining)
        self.context += self._leap * len(self.running)
        self._step += self._leap
        finished = []
        for request in self._joining:
            self.prompt_done += request.prompt
            self.images_done += request.images
            request.first = now
            self._serial += 1
            heapq.heappush(self.running, (self._step + request.output - 1, self._serial, request))
        self._joining.clear()
        while self.running and self.running[0][0] <= self._step:
            request = heapq.heappop(self.running)[2]
            request.finished = now
            self.context -= request.prompt + request.output - 1
            finished.append(request)
        return finished

    def drop(self) -> list[Request]:
        """The replica died: give back every request that it held."""
        held = [*self.queue, *self._joining, *(entry[2] for entry in self.running)]
        self.queue.clear()
        self._joining.clear()
        self.running.clear()
        self.context = self._rest = 0
        return held
