"""Requests that wait for a replica: bounded in number and time, released in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

COLD_START_WEIGHT = 0.5
"""How far one observed wait moves the estimate of the next."""


class Waiter(Protocol):
    """A held request."""

    def released(self) -> None:
        """A replica may be ready: choose again."""


class HoldQueue:
    """The held requests of one tier. Times are seconds of the event loop's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[Waiter, float] = {}
        self._cold_start: float | None = None

    def __len__(self) -> int:
        return len(self._since)

    def add(self, waiter: Waiter, since: float) -> None:
        """Hold a request that began to wait at `since`; one that comes back keeps its age."""
        self._since[waiter] = since

    def remove(self, waiter: Waiter) -> None:
        """Drop a request that no longer waits."""
        self._since.pop(waiter, None)

    def oldest_seconds(self) -> float:
        """How long the oldest request has waited."""
        return self._clock() - min(self._since.values()) if self._since else 0.0

    def release(self) -> None:
        """Let the requests choose again, the oldest first."""
        waiting = sorted(self._since, key=self._since.__getitem__)
        if waiting:
            self._observe(self.oldest_seconds())
        self._since.clear()
        for waiter in waiting:
            waiter.released()

    def _observe(self, seconds: float) -> None:
        known = seconds if self._cold_start is None else self._cold_start
        self._cold_start = known + COLD_START_WEIGHT * (seconds - known)

    def estimate_seconds(self, default: float) -> float:
        """How long a request would still wait: what earlier waits took, else `default`."""
        if self._cold_start is None:
            return default
        return max(1.0, self._cold_start - self.oldest_seconds())
