"""Keys of objects to look at. The rules are those of client-go's work queue.

One pass per key at a time; a key that is added during its pass gets another one; a key added twice
before its pass is passed once; failures of a key delay that key only. Unlike there, news of a key
that fails does not do away with the delay, it only shortens it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from glm_operator.kube.retry import PASSES, Backoff, Random

Key = tuple[str, str]
"""(namespace, name) of a GLMDeployment."""


NEWS_SECONDS = 1.0
"""Longest wait for the pass of a key that failed and of which something new was heard since."""


class Queue:
    """All methods run in the event loop's thread.

    Args:
        clock: a clock that never goes back, in seconds.
        random: returns a number in [0, 1).
        waited: told how long each key waited for its pass, in seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        random: Random,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._waited = waited
        self._ready: OrderedDict[Key, float] = OrderedDict()
        self._active: set[Key] = set()
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, tuple[float, asyncio.TimerHandle]] = {}
        self._arrived = asyncio.Event()

    def add(self, key: Key) -> None:
        """Look at a key as soon as possible; within a second when its last pass failed.

        What is new may be the cure, but it may as well be what the failing pass itself wrote: that
        must not wake it without a pause.
        """
        waits = key in self._active or key in self._ready
        if key in self._failures and not waits:
            self.add_after(key, NEWS_SECONDS)
        else:
            self._enter(key)

    def _enter(self, key: Key) -> None:
        if key in self._active:
            self._again.setdefault(key, self._clock())
        elif key not in self._ready:
            self._ready[key] = self._clock()
            self._arrived.set()

    def add_first(self, key: Key) -> None:
        """Look at a key before all others that are in line."""
        self.add(key)
        if key in self._ready:
            self._ready.move_to_end(key, last=False)

    def add_after(self, key: Key, seconds: float) -> None:
        """Look at a key later. Of several such wishes the earliest counts."""
        due = self._clock() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer[0] <= due:
                return
            timer[1].cancel()
        loop = asyncio.get_running_loop()
        self._timers[key] = (due, loop.call_later(max(0.0, seconds), self._expired, key))

    def _expired(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._enter(key)

    async def get(self) -> Key:
        """The key that waits longest, once there is one. `done`, `put_off` or `failed` follows."""
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        key, since = self._ready.popitem(last=False)
        self._active.add(key)
        self._waited(self._clock() - since)
        return key

    def done(self, key: Key) -> None:
        """The pass of a key succeeded: its failures are forgotten."""
        self._failures.pop(key, None)
        self._finish(key)

    def put_off(self, key: Key) -> None:
        """The pass of a key ended before it could succeed or fail."""
        self._finish(key)

    def failed(self, key: Key, backoff: Backoff = PASSES, asked: float | None = None) -> float:
        """The pass of a key failed: look again after its back-off, which is returned in seconds.

        A key that was added during the pass waits a second at most, as one that is added after it.
        """
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        delay = backoff.delay(failures, self._random, asked)
        if self._again.pop(key, None) is not None:
            delay = min(delay, NEWS_SECONDS)
        self._finish(key)
        self.add_after(key, delay)
        return delay

    def _finish(self, key: Key) -> None:
        self._active.discard(key)
        since = self._again.pop(key, None)
        if since is not None:
            self._ready[key] = since
            self._arrived.set()

    def forget(self, key: Key) -> None:
        """A key that is no more: no timer, no failures."""
        self._failures.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer[1].cancel()

    def age(self) -> float:
        """Seconds that the oldest key has waited for its pass; 0 when none waits."""
        oldest = next(iter(self._ready.values()), None)
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

    def __len__(self) -> int:
        return len(self._ready)
