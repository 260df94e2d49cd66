"""What a run is worth: objectives met against GPU hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glm_operator.simulate.engine import Request
from glm_operator.simulate.world import Outcome


@dataclass(frozen=True, slots=True)
class Objectives:
    """What counts as met."""

    first_seconds: float = 2.0
    between_seconds: float = 0.060


@dataclass(frozen=True, slots=True)
class Score:
    """One run, or the mean of several."""

    attained: float
    """Share of all arrivals that met both objectives; lost ones count as misses."""
    gpu_hours: float
    starts: float
    reversals: float
    lost: float
    first_p99: float
    """Seconds, of those that were answered."""


def score(outcome: Outcome, objectives: Objectives) -> Score:
    """Judge a run."""
    found = outcome.requests
    met = sum(is_met(one, objectives) for one in found)
    waits = sorted(one.first - one.arrived for one in found if one.first >= 0)
    return Score(
        attained=met / max(1, len(found)),
        gpu_hours=outcome.gpu_seconds / 3600.0,
        starts=float(outcome.starts),
        reversals=float(outcome.reversals),
        lost=float(sum(one.lost for one in found)),
        first_p99=waits[int(0.99 * (len(waits) - 1))] if waits else 0.0,
    )


def is_met(request: Request, objectives: Objectives) -> bool:
    """Whether a request met both objectives."""
    if request.lost or request.finished < 0:
        return False
    between = (request.finished - request.first) / max(1, request.output - 1)
    first = request.first - request.arrived
    return first <= objectives.first_seconds and between <= objectives.between_seconds


def mean(scores: Sequence[Score]) -> Score:
    """The mean of several runs."""
    count = len(scores)

    def average(name: str) -> float:
        return float(sum(getattr(one, name) for one in scores)) / count

    names = ("attained", "gpu_hours", "starts", "reversals", "lost", "first_p99")
    return Score(*map(average, names))
