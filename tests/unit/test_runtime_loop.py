"""What a pass's end means for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from glm_operator.kube.errors import KubeError, LeaseLostError, RefusedError, UnavailableError
from glm_operator.runtime.inventory import Affected
from glm_operator.runtime.loop import EVERY_OBJECT, Loop, Periods
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.queue import Queue
from glm_operator.runtime.reconciler import Outcome

A, B, C = ("ml", "a"), ("ml", "b"), ("ml", "c")


@dataclass
class Passes:
    """Stands in for the reconciler: plays an end for every pass."""

    end: Callable[[], Outcome] = lambda: Outcome(exists=True)
    seen: list[tuple[str, str]] = field(default_factory=list)
    due: set[tuple[str, str]] = field(default_factory=set)
    broken: set[tuple[str, str]] = field(default_factory=set)
    roll: list[tuple[str, str]] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)
    first: asyncio.Event = field(default_factory=asyncio.Event)
    thrice: asyncio.Event = field(default_factory=asyncio.Event)

    async def reconcile(self, key: tuple[str, str]) -> Outcome:
        self.seen.append(key)
        self.first.set()
        if len(self.seen) == 3:
            self.thrice.set()
        return self.end()

    def waiting(self) -> list[tuple[str, str]]:
        return [B]

    def hear_first(self, keys: Sequence[tuple[str, str]]) -> None:
        self.roll = list(keys)

    def known(self) -> list[tuple[str, str]]:
        return [A, B]

    def tick(self, key: tuple[str, str]) -> bool:
        if key in self.broken:
            raise ValueError("a bug")
        return key in self.due


def run(passes: Passes, work: Any) -> Any:
    """Run `work(loop, queue)` in an event loop."""

    async def main() -> Any:
        queue = Queue(lambda: 0.0, lambda: 0.5)
        loop = Loop(
            queue,
            passes,  # type: ignore[arg-type] # only what a loop asks of a reconciler
            monotonic=lambda: 0.0,
            random=lambda: 0.5,
            periods=Periods(600.0, 0.001),
        )
        return await asyncio.wait_for(work(loop, queue), 5)

    return asyncio.run(main())


def begun() -> asyncio.Event:
    """The event of an operator that has its lists."""
    begin = asyncio.Event()
    begin.set()
    return begin


def raising(error: Exception) -> Callable[[], Outcome]:
    def end() -> Outcome:
        raise error

    return end


def delay_after(passes: Passes) -> float | None:
    """Seconds until the next pass of A, None when there is none."""

    async def work(loop: Loop, queue: Queue) -> float | None:
        queue.add(A)
        await loop.one_pass(await queue.get())
        timer = queue._timers.get(A)
        queue.forget(A)
        return timer[0] if timer else None

    found: float | None = run(passes, work)
    return found


def errors(passes: Passes, kind: str) -> float | None:
    """How many failures of a kind were counted."""
    name = "glm_operator_reconcile_errors_total"
    return passes.metrics.registry.get_sample_value(name, {"error": kind})


def test_after_a_good_pass_comes_the_resync() -> None:
    assert delay_after(Passes()) == 600.0


def test_a_plan_may_ask_for_an_earlier_pass_but_not_for_a_later_one() -> None:
    assert delay_after(Passes(end=lambda: Outcome(True, 2.0))) == 2.0
    assert delay_after(Passes(end=lambda: Outcome(True, 9999.0))) == 600.0


def test_an_object_that_is_gone_is_not_looked_at_again() -> None:
    assert delay_after(Passes(end=lambda: Outcome(False))) is None


def test_a_pass_that_waits_for_its_turn_forgets_no_failure() -> None:
    ends = iter([KubeError("x"), Outcome(True, waits=True), KubeError("x")])

    def end() -> Outcome:
        this = next(ends)
        if isinstance(this, Exception):
            raise this
        return this

    async def work(loop: Loop, queue: Queue) -> int:
        for _ in range(3):
            queue._expired(A)
            await loop.one_pass(await queue.get())
        failures = queue._failures[A]
        queue.forget(A)
        return failures

    assert run(Passes(end=end), work) == 2


@pytest.mark.parametrize(
    ("error", "least", "most"),
    [
        (UnavailableError("x"), 0.1, 1.0),
        (UnavailableError("x", retry_after=7.0), 7.0, 7.0),
        (RefusedError("x"), 3.0, 5.0),
        (ValueError("a bug"), 0.1, 1.0),
    ],
    ids=["passing", "the server asked", "refused", "a bug"],
)
def test_a_failed_pass_is_repeated_and_counted(error: Exception, least: float, most: float) -> None:
    passes = Passes(end=raising(error))
    delay = delay_after(passes)
    assert delay is not None
    assert least <= delay <= most
    assert errors(passes, type(error).__name__) == 1


def test_a_lost_lease_ends_the_worker() -> None:
    async def work(loop: Loop, queue: Queue) -> None:
        queue.add(A)
        try:
            await loop.work(begun())
        finally:
            queue.forget(A)

    with pytest.raises(LeaseLostError):
        run(Passes(end=raising(LeaseLostError("lost"))), work)


def test_a_worker_goes_on_after_a_failure_and_ends_when_told() -> None:
    passes = Passes(end=raising(KubeError("x")))

    async def work(loop: Loop, queue: Queue) -> None:
        worker = asyncio.create_task(loop.work(begun()))
        queue.add(A)
        queue.add(B)
        await passes.thrice.wait()
        loop.stop()
        await worker
        for key in (A, B):
            queue.forget(key)

    run(passes, work)
    assert {A, B} == set(passes.seen)


def test_a_worker_waits_for_its_begin() -> None:
    passes = Passes()

    async def work(loop: Loop, queue: Queue) -> None:
        begin = asyncio.Event()
        queue.add(A)
        worker = asyncio.create_task(loop.work(begin))
        # Everything that can run without the begin has run after this.
        for _ in range(5):
            await asyncio.sleep(0)
        assert passes.seen == []
        begin.set()
        await passes.first.wait()
        loop.stop()
        await worker
        queue.forget(A)

    run(passes, work)


def test_a_worker_that_was_told_to_stop_before_its_begin_ends_at_once() -> None:
    passes = Passes()

    async def work(loop: Loop, queue: Queue) -> None:
        queue.add(A)
        worker = asyncio.create_task(loop.work(asyncio.Event()))
        loop.stop()
        await worker

    run(passes, work)
    assert passes.seen == []


def test_a_change_concerns_its_owners_and_if_it_frees_those_that_wait() -> None:
    async def work(loop: Loop, queue: Queue) -> list[int]:
        loop.affected(Affected())
        sizes = [len(queue)]
        loop.affected(Affected(frozenset({A})))
        sizes.append(len(queue))
        loop.affected(Affected(frees=True))
        sizes.append(len(queue))
        return sizes

    assert run(Passes(), work) == [0, 1, 2]


def test_who_comes_first_is_passed_first_when_something_becomes_free() -> None:
    async def work(loop: Loop, queue: Queue) -> list[tuple[str, str]]:
        loop.affected(Affected(frozenset({A}), frees=True))
        return [await queue.get() for _ in range(2)]

    assert run(Passes(), work) == [B, A]


def test_the_roll_is_passed_before_everything_else() -> None:
    async def work(loop: Loop, queue: Queue) -> list[tuple[str, str]]:
        queue.add(C)
        loop.begin([B, A])
        return [await queue.get() for _ in range(3)]

    passes = Passes()
    assert run(passes, work) == [B, A, C]
    assert passes.roll == [B, A]


def test_objects_that_wait_are_passed_when_their_order_changes() -> None:
    async def work(loop: Loop, queue: Queue) -> tuple[str, str]:
        loop.reordered()
        return await queue.get()

    assert run(Passes(), work) == B


@pytest.mark.parametrize(
    ("key", "passed"),
    [(A, 1), (("ml", EVERY_OBJECT), 2), (("other", EVERY_OBJECT), 0)],
    ids=["an object", "all of the namespace", "another namespace"],
)
def test_what_is_seen_is_passed(key: tuple[str, str], passed: int) -> None:
    async def work(loop: Loop, queue: Queue) -> int:
        loop.seen(key)
        return len(queue)

    assert run(Passes(), work) == passed


def test_a_tick_passes_what_should_change() -> None:
    async def work(loop: Loop, queue: Queue) -> tuple[str, str]:
        ticking = asyncio.create_task(loop.tick())
        try:
            return await queue.get()
        finally:
            ticking.cancel()

    assert run(Passes(due={B}), work) == B


def test_a_tick_that_fails_is_counted_and_ends_no_other() -> None:
    passes = Passes(due={B}, broken={A})

    async def work(loop: Loop, queue: Queue) -> tuple[str, str]:
        ticking = asyncio.create_task(loop.tick())
        try:
            return await queue.get()
        finally:
            ticking.cancel()

    assert run(passes, work) == B
    assert errors(passes, "ValueError") == 1
