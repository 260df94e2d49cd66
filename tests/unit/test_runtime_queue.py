"""The rules of the work queue, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from glm_operator.kube.retry import Backoff
from glm_operator.runtime.queue import Queue

A, B = ("ml", "a"), ("ml", "b")
SHORT = Backoff(base_seconds=0.001, limit_seconds=0.002)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def on_queue(work: Any) -> Any:
    """Run `work(queue, clock)` in an event loop."""

    async def main() -> Any:
        clock = Clock()
        return await asyncio.wait_for(work(Queue(clock, lambda: 0.5), clock), 5)

    return asyncio.run(main())


def test_a_key_added_twice_is_passed_once() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        queue.add(A)
        queue.add(A)
        assert await queue.get() == A
        assert len(queue) == 0

    on_queue(work)


def test_a_key_added_during_its_pass_is_passed_again() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        queue.add(A)
        await queue.get()
        queue.add(A)
        assert len(queue) == 0, "one pass per key at a time"
        queue.done(A)
        assert await queue.get() == A

    on_queue(work)


def test_keys_are_passed_in_the_order_they_came() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        for key in (B, A):
            queue.add(key)
        assert [await queue.get(), await queue.get()] == [B, A]

    on_queue(work)


def test_a_failed_key_comes_back_by_itself_after_its_delay() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        queue.add(A)
        await queue.get()
        queue.failed(A, SHORT)
        assert len(queue) == 0
        assert await queue.get() == A

    on_queue(work)


def test_delays_grow_with_failures_in_a_row_and_success_forgets_them() -> None:
    async def work(queue: Queue, clock: Clock) -> list[float]:
        steady = Backoff(base_seconds=0.001, limit_seconds=0.003)
        delays = []
        queue.add(A)
        for _ in range(4):
            await queue.get()
            delays.append(queue.failed(A, steady))
        await queue.get()
        queue.done(A)
        queue.add(A)
        await queue.get()
        delays.append(queue.failed(A, steady))
        queue.forget(A)
        return delays

    assert on_queue(work) == pytest.approx([0.00075, 0.0015, 0.00225, 0.00225, 0.00075])


def test_news_during_a_failed_pass_shortens_a_long_delay() -> None:
    async def work(queue: Queue, clock: Clock) -> float:
        queue.add(A)
        await queue.get()
        queue.add(A)
        delay = queue.failed(A, Backoff(base_seconds=60, limit_seconds=60))
        queue.forget(A)
        return delay

    assert on_queue(work) == 1.0


async def fail(queue: Queue, seconds: float) -> None:
    """A pass of A that fails and is to be repeated after so many seconds."""
    queue.add(A)
    await queue.get()
    queue.failed(A, Backoff(base_seconds=seconds, limit_seconds=seconds))


def due(queue: Queue, clock: Clock) -> float:
    """Seconds until the next pass of A, which does not wait yet."""
    assert len(queue) == 0
    wait = queue._timers[A][0] - clock()
    queue.forget(A)
    return wait


def test_news_after_a_failed_pass_shortens_a_long_delay_but_not_to_nothing() -> None:
    async def work(queue: Queue, clock: Clock) -> float:
        await fail(queue, 60)
        clock.now += 10
        queue.add(A)
        return due(queue, clock)

    assert on_queue(work) == 1.0


def test_news_after_a_failed_pass_does_not_lengthen_a_short_delay() -> None:
    async def work(queue: Queue, clock: Clock) -> float:
        await fail(queue, 0.4)
        queue.add(A)
        return due(queue, clock)

    assert on_queue(work) == pytest.approx(0.3)


def test_more_news_does_not_put_a_pass_off() -> None:
    async def work(queue: Queue, clock: Clock) -> float:
        await fail(queue, 60)
        queue.add(A)
        clock.now += 0.75
        queue.add(A)
        return due(queue, clock)

    assert on_queue(work) == 0.25


def test_news_of_a_failed_key_that_waits_already_means_no_second_pass() -> None:
    async def work(queue: Queue, clock: Clock) -> bool:
        await fail(queue, 60)
        queue._expired(A)
        queue.add(A)
        return A in queue._timers

    assert on_queue(work) is False


def test_news_after_a_good_pass_is_passed_at_once() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        await fail(queue, 0.001)
        await queue.get()
        queue.done(A)
        queue.add(A)
        assert len(queue) == 1

    on_queue(work)


def test_what_the_server_asked_for_is_waited_for() -> None:
    async def work(queue: Queue, clock: Clock) -> float:
        queue.add(A)
        await queue.get()
        delay = queue.failed(A, Backoff(base_seconds=1, limit_seconds=60), asked=7.0)
        queue.forget(A)
        return delay

    assert on_queue(work) == 7.0


def test_of_several_later_wishes_the_earliest_counts() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        queue.add_after(A, 3600)
        queue.add_after(A, 0.001)
        queue.add_after(A, 3600)
        assert await queue.get() == A

    on_queue(work)


def test_a_forgotten_key_does_not_come_back() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        queue.add_after(A, 0.001)
        queue.forget(A)
        queue.add_after(B, 0.002)
        assert await queue.get() == B
        assert len(queue) == 0

    on_queue(work)


def test_the_age_is_that_of_the_oldest_waiting_key() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        assert queue.age() == 0.0
        queue.add(A)
        clock.now += 3
        queue.add(B)
        assert queue.age() == 3.0
        await queue.get()
        assert queue.age() == 0.0

    on_queue(work)


def test_a_worker_that_waits_is_woken() -> None:
    async def work(queue: Queue, clock: Clock) -> None:
        waiting: Coroutine[Any, Any, Any] = queue.get()
        task = asyncio.create_task(waiting)
        await asyncio.sleep(0)
        queue.add(A)
        assert await task == A

    on_queue(work)


def test_every_wait_for_a_pass_is_told() -> None:
    waits: list[float] = []

    async def work() -> None:
        clock = Clock()
        queue = Queue(clock, lambda: 0.5, waits.append)
        queue.add(A)
        clock.now += 2.5
        await queue.get()
        queue.add(A)
        clock.now += 4
        queue.done(A)
        await queue.get()

    asyncio.run(work())
    assert waits == [2.5, 4.0]


def test_a_key_can_be_put_before_all_others() -> None:
    async def main() -> list[tuple[str, str]]:
        queue = Queue(lambda: 0.0, lambda: 0.5)
        for key in (A, B):
            queue.add(key)
        queue.add_first(B)
        return [await queue.get() for _ in range(2)]

    assert asyncio.run(main()) == [B, A]
