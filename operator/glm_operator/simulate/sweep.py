"""Runs of laws over setpoints and seeds, and what each law needs to meet the objectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from glm_operator.scaling.law import Policy
from glm_operator.simulate.laws import Hpa, Kpa, Oracle, Ours, Static, true_costs
from glm_operator.simulate.scenarios import SCENARIOS, Scenario
from glm_operator.simulate.score import Objectives, Score, mean, score
from glm_operator.simulate.world import Law, Outcome, World

OURS = "glm-operator"
SETPOINTS: Mapping[str, tuple[float, ...]] = {
    OURS: (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "static": (1, 2, 4, 6, 8, 10, 12, 16),
    "hpa-in-flight": (4, 6, 8, 12, 16, 24),
    "hpa-waiting": (1, 2, 5),
    "kpa": (4, 6, 8, 12, 16),
    "oracle": (0.4, 0.5, 0.6, 0.75, 0.9),
}
"""Every law is tuned by its own knob: use of a replica, replicas, or requests per replica."""
TICKS = {"kpa": 2.0}
"""Seconds between two steps of a law, where they are not the usual three."""
TAIL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    scenario: Scenario | str
    law: str
    setpoint: float
    seed: int
    calibration: float = 1.0
    """Our law's costs are so many times the true ones."""


@dataclass(frozen=True, slots=True)
class Point:
    """A law at a setpoint, over its seeds."""

    law: str
    setpoint: float
    mean: Score
    worst: Score
    """Of the seed with the least attainment."""
    spread: float
    """Half the width of the 95 % interval of the attainment's mean (normal approximation)."""


def run(case: Case) -> tuple[Score, Outcome]:
    """One run of a case."""
    scenario = SCENARIOS[case.scenario] if isinstance(case.scenario, str) else case.scenario
    requests = scenario.requests(case.seed)
    law = make(case, scenario)
    world = World(
        scenario.setting,
        requests,
        law,
        case.seed,
        TICKS.get(case.law, 3.0),
        scenario.follow(case.seed),
    )
    outcome = world.run(scenario.seconds + TAIL_SECONDS)
    return score(outcome, Objectives()), outcome


def make(case: Case, scenario: Scenario) -> Law:
    """The law of a case."""
    least, most, value = scenario.minimum, scenario.setting.slots, case.setpoint
    costs = true_costs(scenario.setting.hardware)
    makers: Mapping[str, Callable[[], Law]] = {
        OURS: lambda: Ours(
            Policy(
                least,
                most,
                costs.scaled(case.calibration),
                scenario.setting.hardware.context_tokens,
                idle_seconds=scenario.idle_seconds,
                use=value,
                most_use=max(0.92, value),
            )
        ),
        "static": lambda: Static(int(value)),
        # A plain HPA does not act at zero: its least is one.
        "hpa-in-flight": lambda: Hpa(value, "in-flight", max(1, least), most),
        "hpa-waiting": lambda: Hpa(value, "waiting", max(1, least), most),
        "kpa": lambda: Kpa(value, least, most),
        "oracle": lambda: Oracle(
            value, costs, scenario.setting.cold_median, least, most, scenario.requests(case.seed)
        ),
    }
    return makers[case.law]()


def _scored(case: Case) -> Score:
    return run(case)[0]


def sweep(
    cases: Sequence[Case], workers: int, told: Callable[[int, int], None]
) -> dict[Case, Score]:
    """Run cases beside each other; `told` hears how many of how many are done."""
    found: dict[Case, Score] = {}
    with ProcessPoolExecutor(workers) as pool:
        for case, one in zip(cases, pool.map(_scored, cases), strict=True):
            found[case] = one
            told(len(found), len(cases))
    return found


def points(scores: Mapping[Case, Score]) -> list[Point]:
    """The runs by law and setpoint."""
    groups: dict[tuple[str, float], list[Score]] = {}
    for case, one in scores.items():
        groups.setdefault((case.law, case.setpoint), []).append(one)
    return [_point(law, setpoint, found) for (law, setpoint), found in groups.items()]


def _point(law: str, setpoint: float, found: list[Score]) -> Point:
    middle = mean(found)
    squares = sum((one.attained - middle.attained) ** 2 for one in found)
    spread = 1.96 * (squares / max(1, len(found) - 1) / len(found)) ** 0.5
    worst = min(found, key=lambda one: one.attained)
    return Point(law, setpoint, middle, worst, spread)


def price(found: Iterable[Point], attainment: float) -> Score | None:
    """What a law needs for an attainment: between its setpoints, on the frontier; None: never."""
    front = frontier(found)
    above = next((one for one in front if one.attained >= attainment), None)
    if above is None:
        return None
    below = max(
        (one for one in front if one.attained < attainment),
        key=lambda one: one.attained,
        default=None,
    )
    if below is None:
        return above
    part = (attainment - below.attained) / (above.attained - below.attained)
    return replace(
        above,
        attained=attainment,
        gpu_hours=below.gpu_hours + part * (above.gpu_hours - below.gpu_hours),
        starts=below.starts + part * (above.starts - below.starts),
    )


def frontier(found: Iterable[Point]) -> list[Score]:
    """The points that no other point of the law beats, by rising cost."""
    best: list[Score] = []
    for one in sorted((point.mean for point in found), key=lambda one: one.gpu_hours):
        if not best or one.attained > best[-1].attained:
            best.append(one)
    return best
