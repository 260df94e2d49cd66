"""The workers that take keys from the queue, and what puts keys there by the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from glm_operator.kube.errors import KubeError, LeaseLostError, RefusedError
from glm_operator.kube.retry import PASSES, REFUSALS, Backoff, Random
from glm_operator.runtime.inventory import Affected
from glm_operator.runtime.queue import Key, Queue
from glm_operator.runtime.reconciler import Outcome, Reconciler

logger = logging.getLogger(__name__)

Clock = Callable[[], float]
Wanted = TypeVar("Wanted")


EVERY_OBJECT = ""
"""In the place of a name: what was seen concerns every object of the namespace."""


@dataclass(frozen=True, slots=True)
class Periods:
    """How often things are done by the clock, in seconds."""

    resync_seconds: float
    """Every object is looked at this often, give or take a tenth."""
    scale_seconds: float
    """Autoscaled objects are looked at in memory this often."""


class Loop:
    """Passes for every key that the queue names.

    Args:
        queue: which keys.
        reconciler: what a pass is; its metrics count the passes.
        monotonic: a clock that never goes back, in seconds.
        random: returns a number in [0, 1).
        periods: how often things are done by the clock.
    """

    def __init__(
        self,
        queue: Queue,
        reconciler: Reconciler,
        *,
        monotonic: Clock,
        random: Random,
        periods: Periods,
    ) -> None:
        self._queue = queue
        self._reconciler = reconciler
        self._metrics = reconciler.metrics
        self._monotonic = monotonic
        self._random = random
        self._periods = periods
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let the workers end after their present pass."""
        self._stopping.set()

    async def work(self, begin: asyncio.Event) -> None:
        """One worker: once `begin` is set, pass after pass until stopped."""
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await _unless(stopping, begin.wait())
            while not self._stopping.is_set():
                key = await _unless(stopping, self._queue.get())
                if key is not None:
                    await self.one_pass(key)
        finally:
            stopping.cancel()

    async def one_pass(self, key: Key) -> None:
        """Pass one key and say to the queue when to look again.

        Raises:
            LeaseLostError: this process must end.
        """
        started = self._monotonic()
        try:
            outcome = await self._reconciler.reconcile(key)
        except LeaseLostError:
            self._queue.failed(key)
            raise
        except KubeError as error:
            backoff = REFUSALS if isinstance(error, RefusedError) else PASSES
            self._fail(key, error, backoff, error.retry_after)
        except Exception as error:
            # One object must not end the passes of all.
            logger.exception("%s/%s: the pass failed unexpectedly", *key)
            self._fail(key, error, PASSES, None)
        else:
            self._succeed(key, outcome)
        finally:
            self._metrics.reconcile_seconds.observe(self._monotonic() - started)

    def _fail(self, key: Key, error: Exception, backoff: Backoff, asked: float | None) -> None:
        self._metrics.reconcile_errors.labels(type(error).__name__).inc()
        delay = self._queue.failed(key, backoff, asked)
        logger.warning("%s/%s: %s; trying again in %.1f s", *key, error, delay)

    def _succeed(self, key: Key, outcome: Outcome) -> None:
        if outcome.waits:
            self._queue.put_off(key)
        else:
            self._queue.done(key)
        if not outcome.exists:
            self._queue.forget(key)
            return
        after = outcome.requeue_after_seconds
        resync = self._periods.resync_seconds * (0.9 + 0.2 * self._random())
        self._queue.add_after(key, resync if after is None else min(resync, after))

    async def tick(self) -> None:
        """Look at autoscaled objects in memory, for ever; pass those that should change."""
        while True:
            await asyncio.sleep(self._periods.scale_seconds)
            for key in self._reconciler.known():
                self._tick(key)
                # Plans of hundreds of objects in a row must not hold up a renewal of the Lease.
                await asyncio.sleep(0)

    def _tick(self, key: Key) -> None:
        try:
            if self._reconciler.tick(key):
                self._queue.add(key)
        except Exception as error:
            # One object must not end the ticks of all; its passes say in its status what is wrong.
            logger.exception("%s/%s: the tick failed unexpectedly", *key)
            self._metrics.reconcile_errors.labels(type(error).__name__).inc()

    def seen(self, key: Key) -> None:
        """Something was heard of an object, or of what all objects of a namespace live with."""
        namespace, name = key
        known = (one for one in self._reconciler.known() if one[0] == namespace)
        for one in known if name == EVERY_OBJECT else (key,):
            self._queue.add(one)

    def affected(self, change: Affected) -> None:
        """A node or a pod changed: pass the objects that it concerns, who comes first first."""
        waiting = self._reconciler.waiting() if change.frees else []
        for key in dict.fromkeys((*waiting, *sorted(change.owners))):
            self._queue.add(key)

    def reordered(self) -> None:
        """Who comes first is another one now: pass all objects that wait."""
        for key in self._reconciler.waiting():
            self._queue.add(key)

    def begin(self, roll: Sequence[Key]) -> None:
        """Pass these objects before any is given GPUs; see `roll`."""
        self._reconciler.hear_first(roll)
        for key in reversed(roll):
            self._queue.add_first(key)


async def _unless(
    stopping: asyncio.Task[Any], wanted: Coroutine[Any, Any, Wanted]
) -> Wanted | None:
    """What is wanted, or None when the stop comes first."""
    waiting = asyncio.create_task(wanted)
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
