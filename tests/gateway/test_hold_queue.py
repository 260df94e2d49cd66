"""The queue of requests that wait, and how long a start is expected to take."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_serving.gateway.coldstart import SAME_START_SECONDS, UNKNOWN_SECONDS, ColdStart
from glm_serving.gateway.holding import Bounds, HoldQueue, Weight

ONE = Weight(requests=1)


@dataclasses.dataclass(eq=False)
class Held:
    """A request that writes down when it is let go."""

    order: list[Held] = dataclasses.field(default_factory=list)
    key: str = ""
    weight: Weight = ONE

    def released(self) -> None:
        self.order.append(self)


def test_the_oldest_is_released_first() -> None:
    order: list[Held] = []
    queue = HoldQueue(lambda: 10.0)
    first, second, third = Held(order), Held(order), Held(order)
    for one, since in ((second, 5.0), (third, 7.0), (first, 1.0)):
        queue.add(one, since)
    assert queue.oldest_seconds() == 9.0
    queue.release(lambda: True)
    assert order == [first, second, third]
    assert len(queue) == 0


def test_no_more_are_released_than_there_is_room_for() -> None:
    order: list[Held] = []
    queue = HoldQueue(lambda: 10.0)
    held = [Held(order) for _ in range(5)]
    for one in held:
        queue.add(one, 1.0)
    queue.release(lambda: len(order) < 3)
    assert order == held[:3]
    assert len(queue) == 2


def test_one_that_comes_back_at_once_ends_the_release() -> None:
    queue = HoldQueue(lambda: 10.0)
    again: list[Held] = []

    class Back(Held):
        def released(self) -> None:
            again.append(self)
            queue.add(self, 1.0)

    queue.add(Back(), 1.0)
    queue.release(lambda: True)
    assert (len(again), len(queue)) == (1, 1)


@pytest.mark.parametrize(
    ("held", "one", "why"),
    [
        ([], Held(weight=Weight(1, 100)), ""),
        ([], Held(weight=Weight(1, 101)), "the gateway holds 0 of at most 100 bytes"),
        ([Held(weight=Weight(1, 60))], Held(weight=Weight(1, 40)), ""),
        (
            [Held(weight=Weight(1, 60))],
            Held(weight=Weight(1, 41)),
            "the gateway holds 60 of at most 100 bytes",
        ),
        ([Held()] * 4, Held(), "the gateway holds 4 of at most 4 requests"),
        ([Held(key="a")] * 2, Held(key="a"), "the key a holds 2 of at most 2 requests"),
        ([Held(key="a")] * 2, Held(key="b"), ""),
        ([Held()] * 2, Held(), ""),
        (
            [Held(key="a", weight=Weight(1, 30))],
            Held(key="a", weight=Weight(1, 21)),
            "the key a holds 30 of at most 50 bytes",
        ),
    ],
)
def test_a_queue_is_full_for_the_process_or_for_a_key(
    held: list[Held], one: Held, why: str
) -> None:
    queue = HoldQueue(lambda: 0.0)
    queue.bounds = Bounds(4, 100, several_keys=True)
    for present in held:
        queue.add(dataclasses.replace(present), 0.0)
    assert queue.full_for(one) == why


def test_the_only_key_may_fill_the_queue() -> None:
    queue = HoldQueue(lambda: 0.0)
    queue.bounds = Bounds(4, 100)
    queue.add(Held(key="a"), 0.0)
    queue.add(Held(key="a"), 0.0)
    assert queue.full_for(Held(key="a")) == ""


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "release"]),
        st.integers(0, 9),
        st.sampled_from(["", "a", "b"]),
        st.integers(0, 50),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_comes_and_goes_the_sums_are_those_of_what_waits(
    steps: list[tuple[str, int, str, int]],
) -> None:
    queue = HoldQueue(lambda: 0.0)
    order: list[Held] = []
    waiting: list[tuple[int, Held]] = []
    for step, number, key, size in steps:
        if step == "add":
            one = Held(order, key, Weight(1, size, 2 * size, number))
            queue.add(one, float(number))
            waiting.append((number, one))
            waiting.sort(key=lambda pair: pair[0])
        elif step == "remove" and waiting:
            queue.remove(waiting.pop(number % len(waiting))[1])
        elif step == "release":
            room = iter([True] * number + [False] * 99)
            order.clear()
            queue.release(lambda room=room: next(room))  # type: ignore[misc]
            assert order == [one for _, one in waiting[:number]]
            del waiting[:number]
        assert len(queue) == len(waiting)
        assert queue.work == sum((one.weight for _, one in waiting), Weight())
    for _, one in waiting:
        queue.remove(one)
        queue.remove(one)
    assert (queue.work, queue._of_key) == (Weight(), {})


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_known_before_a_start_was_seen() -> None:
    clock = Clock()
    start = ColdStart(clock)
    assert (start.estimate_seconds(), start.retry_seconds()) == (None, UNKNOWN_SECONDS)
    start.asked()
    clock.now += 100
    assert (start.estimate_seconds(), start.retry_seconds()) == (None, 25.0)


def test_the_estimate_is_what_is_left_of_an_earlier_start() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.asked()
    clock.now += 100
    start.served()
    assert start.estimate_seconds() is None
    start.asked()
    assert start.estimate_seconds() == 100.0
    clock.now += 30
    assert (start.estimate_seconds(), start.retry_seconds()) == (70.0, 70.0)
    clock.now += 10
    start.served()
    start.asked()
    assert start.estimate_seconds() == 70.0


def test_a_start_that_is_overdue_is_expected_to_take_longer() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.asked()
    clock.now += 10
    start.served()
    start.asked()
    clock.now += 200
    assert start.estimate_seconds() == 50.0


def test_who_comes_soon_after_all_left_waits_for_the_same_start() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.asked()
    clock.now += 20
    start.left()
    clock.now += SAME_START_SECONDS
    start.asked()
    clock.now += 5
    start.served()
    start.asked()
    assert start.estimate_seconds() == 25.0 + SAME_START_SECONDS


def test_who_is_served_elsewhere_asks_for_a_start_without_waiting_for_it() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.passed_by()
    clock.now += 30
    start.passed_by()
    clock.now += 5
    start.served()
    start.passed_by()
    assert start.estimate_seconds() == 35.0
    clock.now += SAME_START_SECONDS + 1
    start.asked()
    assert start.estimate_seconds() == 35.0


def test_who_is_served_elsewhere_ends_nobody_s_waiting() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.asked()
    start.passed_by()
    clock.now += SAME_START_SECONDS + 30
    start.asked()
    clock.now += 10
    start.served()
    start.asked()
    assert start.estimate_seconds() == SAME_START_SECONDS + 40


def test_who_comes_long_after_all_left_asks_for_another_start() -> None:
    clock = Clock()
    start = ColdStart(clock)
    start.asked()
    start.left()
    clock.now += SAME_START_SECONDS + 1
    start.asked()
    clock.now += 5
    start.served()
    start.asked()
    assert start.estimate_seconds() == 5.0
