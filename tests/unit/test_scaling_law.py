"""The scaling law: what it needs, what it learns, and what it never does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_operator.scaling.calibration import SURE, Sample, calibrated
from glm_operator.scaling.law import (
    CORRECTOR_LEAST,
    CORRECTOR_MOST,
    DOWN_LEAST,
    Decision,
    Memory,
    Policy,
    Signals,
    Why,
    decide,
)
from glm_operator.scaling.work import Costs, Work

COSTS = Costs(prompt=50e-6, image=20e-6, output=400e-6)
POLICY = Policy(1, 16, COSTS, context_tokens=1e6, lead_seconds=100.0, output_tokens=100.0)
SLEEPY = replace(POLICY, minimum=0, idle_seconds=600.0)
TEXT = Work(1, 1000, 0, 1000**2)
"""Costs 0.09 replica-seconds."""
SCREENSHOTS = Work(1, 1000, 16_000, 17_000**2)
"""Costs 1.21 replica-seconds."""
NOTHING = Work()
TICK = 3.0


def times(work: Work, count: float) -> Work:
    return Work(work.requests * count, work.text * count, work.images * count, work.squares * count)


class Tier:
    """A tier under the law: what arrives is served at once, unless a test says otherwise."""

    def __init__(self, policy: Policy = POLICY, current: int = 1, **first: Any) -> None:
        self.policy, self.memory, self.now = policy, Memory(), 1000.0
        self.base: dict[str, Any] = {"waiting": NOTHING, "capacity": 16} | first
        self.arrived = NOTHING
        self.desired = self.ready = current
        self.starts_at: list[float] = []
        self.decisions: list[Decision] = []

    def go(self, seconds: float, rate: Work = NOTHING, **signals: Any) -> Decision:
        """Let time pass with so much arriving per second; replicas take 100 s to start."""
        until = self.now + seconds
        while self.now < until:
            self.now += TICK
            self.arrived = self.arrived + times(rate, TICK)
            self.step(**signals)
        return self.decisions[-1]

    def step(self, **signals: Any) -> Decision:
        begun = [at for at in self.starts_at if self.now - at >= 100.0]
        self.starts_at = [at for at in self.starts_at if self.now - at < 100.0]
        self.ready = max(0, self.desired - len(self.starts_at))
        seen: dict[str, Any] = {
            "now": self.now,
            "current": self.desired,
            "arrived": self.arrived,
            "ready": self.ready,
            "ages": tuple(self.now - at for at in self.starts_at),
            "started": tuple(100.0 for _ in begun),
        }
        decision = decide(Signals(**(seen | self.base | signals)), self.policy, self.memory)
        grown = decision.desired - self.desired
        self.starts_at += [self.now] * max(0, grown)
        if grown < 0:
            self.starts_at = self.starts_at[: max(0, len(self.starts_at) + grown)]
        self.desired, self.memory = decision.desired, decision.memory
        self.decisions.append(decision)
        return decision

    @property
    def reasons(self) -> set[Why]:
        return {one.why for one in self.decisions}


# What is needed.


def test_sixteen_screenshots_are_not_a_line_of_text() -> None:
    text, shots = Tier(), Tier()
    for tier, work in ((text, TEXT), (shots, SCREENSHOTS)):
        tier.go(300, times(work, 5))
    assert text.desired == 1
    assert shots.desired == 9


def test_the_same_work_in_more_requests_asks_for_as_many_replicas() -> None:
    few, many = Tier(), Tier()
    few.go(300, times(Work(1, 10_000, 0, 10_000**2), 6))
    many.go(300, times(Work(1, 1000, 0, 1000**2), 40))
    assert abs(few.desired - many.desired) <= 1


def test_one_giant_request_is_no_burst() -> None:
    tier = Tier()
    tier.go(120, times(TEXT, 4))
    tier.arrived = tier.arrived + Work(1, 1000, 120_000, 121_000.0**2)
    tier.go(60, times(TEXT, 4))
    assert tier.desired <= 2


def test_a_real_burst_is_answered_within_the_fast_window() -> None:
    tier = Tier()
    tier.go(120, times(TEXT, 4))
    tier.go(12, times(TEXT, 40))
    assert tier.desired >= 4


def test_what_starts_already_is_credited() -> None:
    tier = Tier()
    tier.go(60, times(TEXT, 30))
    after_a_minute = tier.desired
    tier.go(60, times(TEXT, 30))
    assert tier.desired == after_a_minute


def test_a_backlog_asks_for_more_than_the_load_alone() -> None:
    quiet, late = Tier(), Tier()
    quiet.go(60, times(TEXT, 8))
    late.go(60, times(TEXT, 8), waiting=times(TEXT, 300))
    assert late.desired > quiet.desired
    assert Why.BACKLOG in late.reasons


def test_a_backlog_that_no_capacity_removes_does_not_climb_to_the_maximum() -> None:
    tier = Tier()
    tier.go(900, times(TEXT, 16), waiting=times(TEXT, 2000))
    assert tier.desired <= 1 + 1.6 * 16 * 0.09 / 0.75 + 1


def test_a_full_cache_asks_for_more_though_the_work_would_fit() -> None:
    tier = Tier(current=2)
    tier.go(30, times(TEXT, 1), context=3.0e6)
    assert tier.desired == 4
    assert Why.CONTEXT in tier.reasons


def test_longer_answers_are_learnt_and_paid_for() -> None:
    tier, answered, output = Tier(), 0, 0.0
    for length in (100, 1000):
        for _ in range(100):
            answered, output = answered + 30, output + 30 * length
            tier.go(3, times(TEXT, 10), answered=answered, output=output)
    assert tier.memory.tokens == pytest.approx(1000, rel=0.05)
    assert tier.desired >= 6


def test_no_more_than_the_gpus_there_are() -> None:
    tier = Tier(capacity=3)
    tier.go(120, times(TEXT, 100))
    assert tier.desired == 3
    assert tier.decisions[-1].why is Why.CAPACITY


def test_fewer_gpus_than_replicas_take_none_away() -> None:
    tier = Tier(current=4, capacity=2)
    tier.go(30, times(TEXT, 30))
    assert tier.desired >= 4


def test_growth_is_at_most_double_or_four_at_once() -> None:
    tier = Tier()
    tier.go(120, times(TEXT, 200))
    numbers = [1, *(one.desired for one in tier.decisions)]
    steps = itertools.pairwise(numbers)
    assert all(after <= max(2 * before, before + 4) for before, after in steps)


# What goes.


def test_nothing_goes_before_the_window_has_passed() -> None:
    tier = Tier(current=6)
    tier.go(DOWN_LEAST - TICK, times(TEXT, 2))
    assert tier.desired == 6
    tier.go(30, times(TEXT, 2))
    assert tier.desired < 6


def test_at_most_a_third_goes_at_once_and_the_next_a_while_later() -> None:
    tier = Tier(current=9)
    tier.go(DOWN_LEAST + 60, times(TEXT, 1))
    numbers = [one.desired for one in tier.decisions]
    assert [numbers.count(count) for count in (6, 4, 3)] == [5, 5, 5]


def test_what_the_last_window_needed_stays() -> None:
    tier = Tier(current=6)
    tier.go(60, times(TEXT, 40))
    tier.go(120, times(TEXT, 1))
    assert tier.desired >= 5


def test_nothing_goes_while_survivors_could_not_hold_the_contexts() -> None:
    tier = Tier(current=4)
    tier.go(400, times(TEXT, 2), context=2.9e6)
    assert tier.desired == 4


def test_nothing_goes_during_a_rollout() -> None:
    tier = Tier(current=4)
    tier.go(400, times(TEXT, 2), rolling=True)
    assert tier.desired == 4
    assert tier.decisions[-1].why is Why.ROLLOUT


def test_nothing_goes_after_a_restart_until_the_window_is_full_again() -> None:
    tier = Tier(current=6)
    tier.go(140, times(TEXT, 2))
    tier.memory = replace(tier.memory, since=None, marks=(), peaks=())
    tier.go(DOWN_LEAST - TICK, times(TEXT, 2))
    assert tier.desired == 6


def test_a_bound_binds_at_once() -> None:
    tier = Tier(current=12)
    tier.policy = replace(POLICY, maximum=8)
    assert tier.go(TICK).desired == 8
    tier.policy = replace(POLICY, minimum=10, maximum=12)
    assert tier.go(TICK).desired == 10


# Sleep.


def test_sleep_needs_the_whole_idle_time() -> None:
    tier = Tier(SLEEPY)
    tier.go(30, times(TEXT, 1))
    tier.go(597)
    assert tier.desired == 1
    tier.go(6)
    assert tier.desired == 0
    assert tier.decisions[-1].why in {Why.IDLE, Why.STEADY}


@pytest.mark.parametrize("signal", [{"in_flight": 1}, {"held": 1, "waiting": TEXT}])
def test_a_tier_with_work_does_not_sleep(signal: dict[str, Any]) -> None:
    tier = Tier(SLEEPY)
    tier.go(900, **signal)
    assert tier.desired >= 1


def test_a_request_between_two_steps_keeps_the_tier_awake() -> None:
    tier = Tier(SLEEPY)
    for _ in range(4):
        tier.go(300)
        tier.arrived = tier.arrived + TEXT
    assert tier.desired == 1


def test_a_tier_that_starts_is_not_put_to_sleep() -> None:
    tier = Tier(replace(SLEEPY, idle_seconds=30), current=0)
    tier.go(TICK, held=1, waiting=TEXT)
    tier.go(90)
    assert tier.desired == 1


def test_the_first_request_wakes_and_many_make_one_wake() -> None:
    tier = Tier(SLEEPY, current=0)
    tier.arrived = times(TEXT, 1000)
    decision = tier.go(TICK, held=512, waiting=times(TEXT, 512))
    assert decision.why is Why.WAKE
    assert 1 <= decision.desired <= 4


def test_a_sleeping_tier_that_nobody_asks_sleeps_on() -> None:
    tier = Tier(SLEEPY, current=0)
    tier.go(900)
    assert tier.desired == 0


# What is not known.


def test_unknown_counters_take_nothing_away() -> None:
    tier = Tier(current=6)
    tier.go(120, times(TEXT, 2))
    tier.go(900, arrived=None, in_flight=None)
    assert tier.desired == 6
    assert tier.decisions[-1].why is Why.UNKNOWN


def test_a_minimum_that_no_gpu_has_room_for_makes_no_replica_that_only_waits() -> None:
    tier = Tier(current=0, capacity=0)
    tier.go(TICK, waiting=None, in_flight=None)
    assert tier.desired == 0


def test_engines_alone_may_raise_the_number() -> None:
    tier = Tier(current=2)
    tier.go(TICK, arrived=None, in_flight=40)
    assert (tier.desired, tier.decisions[-1].why) == (5, Why.FALLBACK)
    tier.go(900, arrived=None, in_flight=1)
    assert tier.desired == 5


def test_nothing_goes_until_the_window_is_full_after_an_outage() -> None:
    tier = Tier(current=6)
    tier.go(140, times(TEXT, 2))
    tier.go(30, arrived=None, in_flight=None)
    tier.go(DOWN_LEAST - TICK, times(TEXT, 2))
    assert tier.desired == 6


def test_a_gateway_that_counts_from_zero_again_is_no_burst_and_no_idleness() -> None:
    tier = Tier()
    tier.go(120, times(TEXT, 6))
    tier.arrived = NOTHING
    tier.go(60, times(TEXT, 6))
    assert tier.desired <= 2


# What is learnt.


def test_the_lead_time_is_what_starts_took() -> None:
    tier = Tier()
    tier.go(TICK, started=(60.0,))
    tier.go(TICK, started=(160.0,))
    assert tier.memory.lead == pytest.approx(90.0)


def test_bad_latency_makes_work_dearer_slowly() -> None:
    tier = Tier(current=2)
    tier.go(600, times(TEXT, 14), strain=2.0)
    assert 1.5 < tier.memory.corrector <= CORRECTOR_MOST


def test_good_latency_of_idle_replicas_teaches_nothing() -> None:
    tier = Tier(current=8)
    tier.go(600, times(TEXT, 2), strain=0.1)
    assert tier.memory.corrector == 1.0


def test_latency_while_replicas_start_teaches_nothing() -> None:
    tier = Tier(current=2)
    tier.go(90, times(TEXT, 60), strain=2.0)
    assert tier.memory.corrector == 1.0


@pytest.mark.parametrize("strain", [0.42, 0.5])
def test_latency_at_half_of_its_objective_corrects_nothing(strain: float) -> None:
    tier = Tier(current=2)
    tier.go(600, times(TEXT, 14), strain=strain)
    assert tier.memory.corrector == 1.0


def did(work_seconds: float, saturated: bool = False) -> Sample:
    """What an engine did in half a minute, by the costs that the policy believes."""
    return Sample(30.0, work_seconds / COSTS.prompt, 0, 0, saturated)


def test_an_engine_that_did_more_than_it_was_thought_able_to_makes_work_cheaper() -> None:
    factor = 1.0
    for _ in range(60):
        factor = calibrated(factor, COSTS, [did(120.0)])
    assert factor == pytest.approx(0.25 * SURE, rel=0.1)


def test_an_engine_that_cannot_keep_up_makes_work_dearer() -> None:
    factor = 1.0
    for _ in range(60):
        factor = calibrated(factor, COSTS, [did(3.0, saturated=True)])
    assert factor == pytest.approx(10 / SURE, rel=0.1)


@pytest.mark.parametrize(
    "sample",
    [did(3.0), did(0.0, saturated=True), did(25.0, saturated=True), did(40.0)],
    ids=["half idle", "nothing done", "nearly as thought", "a little faster"],
)
def test_what_may_have_another_cause_teaches_nothing(sample: Sample) -> None:
    assert calibrated(1.0, COSTS, [sample]) == 1.0


def test_a_short_look_teaches_nothing() -> None:
    assert calibrated(1.0, COSTS, [Sample(3.0, 1e6, 0, 0, True)]) == 1.0


def test_what_engines_are_too_slow_for_asks_for_more_replicas() -> None:
    tier = Tier()
    tier.go(300, times(TEXT, 5), samples=(did(3.0, saturated=True),))
    assert tier.memory.calibration > 2
    assert tier.desired >= 3


# Whatever happens.

WORKS = st.builds(
    Work,
    st.floats(0, 100),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e12),
)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "rate": WORKS,
            "waiting": st.one_of(st.none(), WORKS),
            "held": st.integers(0, 600),
            "in_flight": st.one_of(st.none(), st.integers(0, 500)),
            "capacity": st.integers(0, 20),
            "context": st.floats(0, 1e7),
            "strain": st.one_of(st.none(), st.floats(0, 50)),
            "rolling": st.booleans(),
        }
    ),
    max_size=20,
)


@given(STEPS, st.integers(0, 3), st.integers(0, 16))
def test_the_number_stays_within_its_bounds(
    steps: list[dict[str, Any]], minimum: int, current: int
) -> None:
    tier = Tier(replace(POLICY, minimum=minimum), current=current)
    for one in steps:
        rate, capacity = one.pop("rate"), one["capacity"]
        before = tier.desired
        decision = tier.go(TICK, rate, **one)
        assert 0 <= decision.desired <= POLICY.maximum
        assert decision.desired <= max(before, capacity, 0)
        assert CORRECTOR_LEAST <= tier.memory.corrector <= CORRECTOR_MOST


@given(STEPS)
def test_nothing_goes_without_knowledge(steps: list[dict[str, Any]]) -> None:
    tier = Tier(current=5)
    for one in steps:
        one.pop("rate")
        before = tier.desired
        assert tier.go(TICK, **(one | {"waiting": None})).desired >= before
