"""The simulation: engines take the time they should, every request is accounted for."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glm_operator import cli
from glm_operator.scaling.work import Work
from glm_operator.simulate import traffic
from glm_operator.simulate.engine import Engine, Hardware, Request
from glm_operator.simulate.laws import Hpa, Kpa, Oracle, Static, true_costs
from glm_operator.simulate.scenarios import SCENARIOS
from glm_operator.simulate.score import Objectives, Score, score
from glm_operator.simulate.sweep import Case, Point, frontier, points, price, run
from glm_operator.simulate.traffic import Mix
from glm_operator.simulate.world import Outcome, Seen, Setting, World

HARDWARE = Hardware()


def request(at: float = 0.0, text: int = 1000, images: int = 0, output: int = 50) -> Request:
    return Request(at, text, images, output)


def seen(**more: Any) -> Seen:
    base: dict[str, Any] = {
        "now": 0.0,
        "desired": 1,
        "slots": 16,
        "arrived": Work(),
        "waiting": Work(),
        "held": 0,
        "queued": 0,
        "in_flight": 0,
        "answered": 0,
        "output": 0,
        "ready": 1,
        "ages": (),
        "started": (),
        "context": 0,
        "samples": (),
        "first_tokens": (),
        "between_tokens": (),
    }
    return Seen(**(base | more))


# Engines.


def alone(one: Request) -> float:
    """Seconds until an engine with nothing else to do has finished a request."""
    engine, now = Engine(HARDWARE), 0.0
    engine.queue.append(one)
    while one.finished < 0:
        now += engine.begin()
        engine.end(now)
    assert engine.context == 0
    return now


def test_a_request_alone_takes_its_prefill_and_a_step_per_token() -> None:
    one = request(output=50)
    total = alone(one)
    assert one.first == pytest.approx(0.010 + 1000 * 42e-6, rel=0.01)
    assert total - one.first == pytest.approx(49 * 0.010, rel=0.02)


def test_image_tokens_cost_the_encoder_too() -> None:
    text, shots = request(text=2000, output=1), request(text=0, images=2000, output=1)
    assert alone(shots) - alone(text) == pytest.approx(2000 * 16e-6)


def test_a_long_prompt_is_prefilled_in_chunks() -> None:
    one = request(text=10_000, output=1)
    assert alone(one) == pytest.approx(5 * 0.010 + 10_000 * 42e-6, rel=0.01)


def test_no_more_sequences_run_than_there_are_seats() -> None:
    engine, now = Engine(Hardware(max_sequences=4)), 0.0
    engine.queue.extend(request(text=10, output=100) for _ in range(20))
    for _ in range(20):
        now += engine.begin()
        engine.end(now)
        assert len(engine.running) <= 4


def test_what_does_not_fit_into_the_cache_waits() -> None:
    engine = Engine(Hardware(context_tokens=1500))
    engine.queue.extend([request(text=1000), request(text=1000)])
    engine.end(engine.begin())
    engine.end(engine.begin())
    assert (len(engine.running), len(engine.queue)) == (1, 1)


# Worlds.


def world(requests: list[Request], law: Any, **setting: Any) -> Outcome:
    made = Setting(**({"initial": 1, "cold_sigma": 0.0} | setting))
    return World(made, requests, law, seed=1).run(2000.0)


def steady(count: int, gap: float = 1.0) -> list[Request]:
    return [request(at=index * gap) for index in range(count)]


def test_a_pool_that_stays_is_paid_for_all_the_time() -> None:
    outcome = world(steady(10), Static(2), initial=2)
    assert outcome.gpu_seconds == pytest.approx(2 * 2000.0)
    assert outcome.starts == 0


def test_a_request_to_a_sleeping_tier_waits_for_the_start() -> None:
    (one,) = requests = [request(at=10.0)]
    world(requests, Static(1), initial=0, cold_median=100.0)
    assert 90.0 < one.first - one.arrived < 95.0


def test_who_waits_too_long_and_who_finds_the_queue_full_is_lost() -> None:
    requests = steady(100, gap=0.01)
    world(requests, Static(1), initial=0, most_held=40, cold_median=100.0)
    assert sum(one.lost for one in requests) == 60
    late = steady(10, gap=0.01)
    world(late, Static(1), initial=0, hold_seconds=30.0, cold_median=100.0)
    assert all(one.lost for one in late)


def test_a_replica_that_drains_finishes_its_requests_and_then_costs_nothing() -> None:
    requests = [request(at=1.0, output=2000)]
    outcome = world(requests, lambda seen, now, current: 1 if now < 5 else 0)
    assert requests[0].finished > 10
    assert outcome.gpu_seconds == pytest.approx(requests[0].finished, rel=0.01)


def test_a_draining_replica_comes_back_before_one_is_created() -> None:
    requests = [request(at=1.0, output=2000)]
    numbers = {4: 0, 5: 1}
    outcome = world(requests, lambda seen, now, current: numbers.get(int(now) // 3, current))
    assert outcome.starts == 0


def test_what_a_dead_replica_had_begun_to_answer_is_lost_and_the_rest_is_served() -> None:
    requests = [request(at=1.0, output=2000), request(at=2.0, text=60_000, output=10)]
    outcome = world(requests, Static(1), crashes=(2.5,), cold_median=50.0)
    assert [one.lost for one in requests] == [True, False]
    assert requests[1].finished > 50
    assert outcome.starts == 1


def test_an_outage_is_told_as_nothing_known() -> None:
    told: list[tuple[float, bool]] = []

    def law(seen: Seen | None, now: float, current: int) -> int:
        told.append((now, seen is None))
        return current

    world(steady(3), law, outages=((30.0, 60.0),))
    assert {blind for at, blind in told if 30 <= at < 60} == {True}
    assert {blind for at, blind in told if not 30 <= at < 60} == {False}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 3), st.lists(st.integers(0, 6), min_size=1))
def test_every_request_is_answered_once_or_lost(
    seed: int, initial: int, numbers: list[int]
) -> None:
    moments = traffic.arrivals(lambda _: 2.0, 300.0, seed)
    requests = traffic.requests(moments, lambda _: Mix(), seed)

    def law(seen: Seen | None, now: float, current: int) -> int:
        return 1 if now > 400 else numbers[int(now / 20) % len(numbers)]

    made = Setting(initial=initial, cold_median=20.0, crashes=(100.0,))
    outcome = World(made, requests, law, seed).run(4000.0)
    assert all((one.finished >= 0) != one.lost for one in outcome.requests)
    assert outcome.gpu_seconds >= 0


def test_a_seed_gives_the_same_run_again() -> None:
    case = Case("sparse", "hpa-waiting", 1, 1)
    short = SCENARIOS["sparse"].requests(1)
    again = SCENARIOS["sparse"].requests(1)
    assert [(one.arrived, one.prompt) for one in short] == [
        (one.arrived, one.prompt) for one in again
    ]
    assert run(case)[0] == run(case)[0]


# Traffic.


def test_arrivals_have_the_rate_that_was_asked_for() -> None:
    moments = traffic.arrivals(lambda now: 10.0 if now < 500 else 30.0, 1000.0, 1, bursty=False)
    first = sum(at < 500 for at in moments)
    assert first == pytest.approx(5000, rel=0.06)
    assert len(moments) - first == pytest.approx(15_000, rel=0.06)


def test_lengths_have_the_statistics_of_the_published_trace() -> None:
    made = traffic.requests([0.0] * 20_000, lambda _: Mix(), 1)
    shown = [one for one in made if one.images]
    assert len(shown) / len(made) == pytest.approx(0.6, abs=0.02)
    assert sum(one.output for one in made) / len(made) == pytest.approx(128, rel=0.05)
    assert sum(one.images for one in shown) / len(shown) == pytest.approx(1250, rel=0.15)


# Laws.


def test_hpa_asks_for_the_metric_over_its_target() -> None:
    law = Hpa(8, "in-flight", 1, 16)
    assert law(seen(in_flight=20), 0.0, 2) == 3
    assert law(seen(in_flight=200), 5.0, 3) == 3, "not before its next sync"
    assert law(seen(in_flight=200), 15.0, 3) == 7, "at most four more at once"


def test_hpa_stays_within_its_tolerance_and_shrinks_after_five_minutes() -> None:
    law = Hpa(8, "in-flight", 1, 16)
    assert law(seen(in_flight=17), 0.0, 2) == 2
    assert law(seen(in_flight=1), 60.0, 2) == 2
    assert law(seen(in_flight=1), 301.0, 2) == 1


def test_kpa_panics_at_twice_its_target_and_then_does_not_shrink() -> None:
    law = Kpa(8, 1, 16)
    for tick in range(30):
        assert law(seen(in_flight=8), 2.0 * tick, 1) == 1
    assert law(seen(in_flight=100), 60.0, 1) >= 2
    grown = law(seen(in_flight=100), 62.0, 3)
    assert law(seen(in_flight=0), 64.0, grown) == grown


def test_the_oracle_is_ready_when_the_load_comes() -> None:
    requests = [request(at=200 + index / 20) for index in range(4000)]
    law = Oracle(0.75, true_costs(HARDWARE), 100.0, 1, 16, requests)
    assert law(None, 0.0, 1) == 1
    assert law(None, 110.0, 1) == law(None, 300.0, 1) > 1


# Scores.


def test_a_request_that_was_lost_or_late_is_no_success() -> None:
    good, late, lost = (request(at=0.0, output=11) for _ in range(3))
    for one, first in ((good, 1.9), (late, 2.1)):
        one.first, one.finished = first, first + 0.5
    lost.lost = True
    assert score(Outcome([good, late, lost]), Objectives()).attained == pytest.approx(1 / 3)


def point(law: str, attained: float, hours: float) -> Point:
    one = Score(attained, hours, 0, 0, 0, 0)
    return Point(law, 1.0, one, one, 0.0)


def test_the_price_of_an_attainment_lies_between_setpoints() -> None:
    found = [point("a", 0.90, 10.0), point("a", 0.98, 14.0)]
    priced = price(found, 0.94)
    assert priced is not None
    assert priced.gpu_hours == pytest.approx(12.0)
    assert price(found, 0.99) is None


def test_a_point_that_another_beats_is_not_on_the_frontier() -> None:
    found = [point("a", 0.9, 10.0), point("a", 0.8, 12.0), point("a", 0.95, 13.0)]
    assert [one.attained for one in frontier(found)] == [0.9, 0.95]


def test_points_keep_the_worst_seed() -> None:
    scores = {
        Case("images", "static", 4, seed): Score(attained, 8.0, 0, 0, 0, 0)
        for seed, attained in enumerate((0.9, 0.7, 0.8))
    }
    (found,) = points(scores)
    assert (found.mean.attained, found.worst.attained) == (pytest.approx(0.8), 0.7)
    assert found.spread == pytest.approx(1.96 * 0.1 / math.sqrt(3))


# The command.


@pytest.mark.timeout(120)
def test_the_command_prints_a_table_and_writes_plots_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["simulate", "--scenario", "sparse", "--law", "hpa-waiting", "--seeds", "1"]
    assert cli.main([*argv, "-o", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "hpa-waiting" in told.out
    assert "sparse: 3 runs" in told.err
    assert (tmp_path / "sparse-frontier.svg").read_text().startswith("<svg")
    numbers = json.loads((tmp_path / "simulation.json").read_text())
    assert {one["setpoint"] for one in numbers["sparse"]} == {1, 2, 5}


def test_a_number_of_seeds_that_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["simulate", "--seeds", "0"]) == 2
    assert "--seeds is 0: use 1 to 50" in capsys.readouterr().err
