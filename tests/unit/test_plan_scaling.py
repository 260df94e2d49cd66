"""The first scaling law: bounds at once, growth at once, shrinking slowly and only when sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from glm_operator.plan.observed import GatewayReport, GatewayTier, ScalingMemory
from glm_operator.plan.scaling import (
    DOWN_STEP_SECONDS,
    DOWN_WINDOW_SECONDS,
    STALE_SECONDS,
    Decision,
    Policy,
    ScaleReason,
    Signals,
    decide,
)

NOW = 1_000_000.0
POLICY = Policy(minimum=1, maximum=8, idle_seconds=600)
SLEEPY = replace(POLICY, minimum=0)


def report(pod: str = "g-0", age: float = 0.5, **tier: int) -> GatewayReport:
    return GatewayReport(pod, 1, age, tiers={"flash": GatewayTier(**tier)})  # type: ignore[arg-type]


def signals(current: int, *reports: GatewayReport, **more: int | bool) -> Signals:
    base = Signals(current, 8, reports, gateways=len(reports) or 1, serving=current, tier="flash")
    return replace(base, **more)  # type: ignore[arg-type]


def run(
    steps: Sequence[tuple[float, Signals]], policy: Policy, memory: ScalingMemory | None = None
) -> Decision:
    """Feed the law a history; the number of one step is the next step's present."""
    held = memory or ScalingMemory()
    last: Decision | None = None
    for at, now_signals in steps:
        present = now_signals if last is None else replace(now_signals, current=last.desired)
        last = decide(present, policy, held, NOW + at)
        held = last.memory
    assert last is not None
    return last


@pytest.mark.parametrize(
    ("current", "tier", "policy", "desired", "reason"),
    [
        (1, {"in_flight": 8}, POLICY, 1, ScaleReason.STEADY),
        (1, {"in_flight": 9}, POLICY, 2, ScaleReason.LOAD),
        (1, {"in_flight": 5, "held": 20}, POLICY, 4, ScaleReason.LOAD),
        (1, {"in_flight": 500}, POLICY, 8, ScaleReason.LOAD),
        (0, {"held": 1}, SLEEPY, 1, ScaleReason.WAKE),
        (0, {"held": 17}, SLEEPY, 3, ScaleReason.WAKE),
        (0, {}, SLEEPY, 0, ScaleReason.STEADY),
        (0, {"in_flight": 4}, SLEEPY, 0, ScaleReason.STEADY),
        (0, {}, POLICY, 1, ScaleReason.BOUNDS),
        (9, {"in_flight": 500}, POLICY, 8, ScaleReason.BOUNDS),
    ],
)
def test_bounds_and_growth_act_at_once(
    current: int, tier: dict[str, int], policy: Policy, desired: int, reason: ScaleReason
) -> None:
    decision = decide(signals(current, report(**tier)), policy, ScalingMemory(), NOW)
    assert (decision.desired, decision.reason) == (desired, reason)


def test_growth_stops_at_the_gpus_there_are() -> None:
    decision = decide(signals(1, report(in_flight=80), capacity=3), POLICY, ScalingMemory(), NOW)
    assert (decision.desired, decision.reason) == (3, ScaleReason.CAPACITY)


def test_less_room_than_replicas_takes_none_away() -> None:
    decision = decide(signals(3, report(in_flight=80), capacity=2), POLICY, ScalingMemory(), NOW)
    assert decision.desired == 3


def test_shrinking_waits_for_its_window() -> None:
    early = run(
        [(0, signals(4, report())), (DOWN_WINDOW_SECONDS - 1, signals(4, report()))], POLICY
    )
    late = run([(0, signals(4, report())), (DOWN_WINDOW_SECONDS, signals(4, report()))], POLICY)
    assert (early.desired, late.desired) == (4, 3)
    assert late.reason is ScaleReason.LESS_LOAD


def test_shrinking_goes_one_at_a_time() -> None:
    start = [(0.0, signals(4, report())), (DOWN_WINDOW_SECONDS, signals(4, report()))]
    soon = run([*start, (DOWN_WINDOW_SECONDS + 1, signals(4, report()))], POLICY)
    later = run([*start, (DOWN_WINDOW_SECONDS + DOWN_STEP_SECONDS, signals(4, report()))], POLICY)
    assert (soon.desired, later.desired) == (3, 2)


def test_a_burst_within_the_window_starts_it_anew() -> None:
    burst = signals(4, report(in_flight=30))
    history = [(0.0, signals(4, report())), (100.0, burst), (160.0, signals(4, report()))]
    assert run(history, POLICY).desired == 4


def test_sleep_needs_the_whole_idle_time() -> None:
    quiet = report(arrivals=7)
    early = run([(0, signals(1, quiet)), (599, signals(1, quiet))], SLEEPY)
    late = run([(0, signals(1, quiet)), (600, signals(1, quiet))], SLEEPY)
    assert (early.desired, late.desired) == (1, 0)
    assert late.reason is ScaleReason.IDLE


def test_a_request_seen_only_by_its_counter_keeps_the_tier_awake() -> None:
    history = [
        (0.0, signals(1, report(arrivals=7))),
        (400.0, signals(1, report(arrivals=8))),
        (700.0, signals(1, report(arrivals=8))),
    ]
    assert run(history, SLEEPY).desired == 1


def test_a_restarted_gateway_counts_as_an_arrival() -> None:
    history = [
        (0.0, signals(1, report(arrivals=7))),
        (400.0, signals(1, report(arrivals=2))),
        (700.0, signals(1, report(arrivals=2))),
    ]
    assert run(history, SLEEPY).desired == 1


def test_a_start_is_not_idle_time() -> None:
    starting = signals(1, report(), serving=0)
    assert run([(0, starting), (5_000, starting)], SLEEPY).desired == 1
    history = [(0.0, starting), (700.0, starting), (701.0, signals(1, report()))]
    assert run(history, SLEEPY).desired == 1


def test_one_long_stream_keeps_the_tier_awake() -> None:
    busy = signals(1, report(arrivals=7, in_flight=1))
    assert run([(0, busy), (5_000, busy)], SLEEPY).desired == 1


@pytest.mark.parametrize(
    "blind",
    [
        signals(3, report(age=STALE_SECONDS + 0.1)),
        signals(3),
        signals(3, report(), gateways=2),
        signals(3, report(), report("g-1", age=60.0)),
    ],
    ids=["stale", "none", "one missing", "one stale"],
)
def test_the_unknown_never_scales_down(blind: Signals) -> None:
    seen = [(0.0, signals(3, report())), (1.0, signals(3, report()))]
    decision = run([*seen, (5_000.0, blind), (6_000.0, blind)], SLEEPY)
    assert (decision.desired, decision.reason) == (3, ScaleReason.UNKNOWN)


def test_the_unknown_still_grows_on_what_is_known() -> None:
    decision = decide(
        signals(0, report(held=2), report("g-1", age=60.0)), SLEEPY, ScalingMemory(), NOW
    )
    assert decision.desired == 1


def test_no_replica_goes_during_a_rollout() -> None:
    rolling = signals(4, report(), rolling=True)
    assert run([(0, rolling), (5_000, rolling)], POLICY).desired == 4


def test_a_lost_memory_starts_the_idle_time_anew() -> None:
    decision = decide(signals(1, report(arrivals=50)), SLEEPY, ScalingMemory(), NOW)
    assert decision.desired == 1
    assert decision.memory.last_arrival_at == NOW


def test_the_reason_of_a_change_outlives_the_step() -> None:
    first = decide(signals(1, report(in_flight=9)), POLICY, ScalingMemory(), NOW)
    again = decide(signals(2, report(in_flight=9)), POLICY, first.memory, NOW)
    assert (again.reason, again.memory.reason) == (ScaleReason.STEADY, "Load")


def test_the_memory_forgets_gateways_that_are_gone() -> None:
    before = ScalingMemory(arrivals={"old": 4, "g-0": 1}, last_arrival_at=NOW)
    decision = decide(signals(1, report(arrivals=1)), POLICY, before, NOW)
    assert decision.memory.arrivals == {"g-0": 1}
