"""Situations that a law has to live through: traffic, cluster and troubles."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from glm_operator.simulate import traffic
from glm_operator.simulate.engine import Request
from glm_operator.simulate.traffic import Mix, Rate
from glm_operator.simulate.world import Follow, Setting

HOUR = 3600.0


def _usual(now: float) -> Mix:
    return Mix()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One situation. Rates are requests per second, times seconds."""

    name: str
    says: str
    """In a few words, for the table."""
    rate: Rate
    seconds: float = HOUR
    mixes: traffic.Mixes = _usual
    setting: Setting = field(default_factory=Setting)
    minimum: int = 1
    """minReplicas of every law that has one."""
    idle_seconds: float = 600.0
    bursty: bool = True
    loop: int = 0
    """Clients that each wait for their answer before they ask again; 0: arrivals are open."""

    def requests(self, seed: int) -> list[Request]:
        """The traffic of a seed, anew each time: a run writes into it."""
        moments = traffic.arrivals(self.rate, self.seconds, seed, self.bursty)
        if self.loop:
            moments = [index / 10.0 for index in range(self.loop)]
        return traffic.requests(moments, self.mixes, seed)

    def follow(self, seed: int) -> Follow | None:
        """What a client of a closed loop asks after an answer: once it has thought for a while."""
        if not self.loop:
            return None
        chance = random.Random(f"loop {seed}")

        def after(request: Request, now: float) -> Request:
            (made,) = traffic.drawn(chance, [now + chance.expovariate(0.2)], self.mixes)
            return made

        return after


def _diurnal(now: float) -> float:
    """A day in an hour: the peak is seven times the trough."""
    return 8.5 + 51.5 * 0.5 * (1 - math.cos(2 * math.pi * now / HOUR))


def _flat(now: float) -> float:
    return 28.0


def _crowds(now: float) -> float:
    """Four times the traffic for eight minutes, twice an hour."""
    return 64.0 if 600 <= now % 1800 < 1080 else 16.0


def _on_and_off(now: float) -> float:
    """Forty minutes of work in every two hours."""
    return 4.0 if now % (2 * HOUR) >= 80 * 60 else 0.0


def _image_shift(now: float) -> Mix:
    return Mix(image_factor=3.0 if 1200 <= now < 2400 else 1.0)


def _output_shift(now: float) -> Mix:
    return Mix(output_factor=4.0 if now >= 1200 else 1.0)


_SCENARIOS = (
    Scenario("diurnal", "a day's curve, peak 7 times the trough", _diurnal),
    Scenario("crowds", "4 times the traffic for 8 minutes", _crowds),
    Scenario(
        "images", "images times 3 for 20 minutes, at a constant rate", _flat, mixes=_image_shift
    ),
    Scenario(
        "sparse",
        "40 minutes of work in 2 hours, may sleep",
        _on_and_off,
        seconds=4 * HOUR,
        setting=Setting(initial=0),
        minimum=0,
    ),
    Scenario("outputs", "answers times 4 (reasoning)", _flat, mixes=_output_shift),
    Scenario("full", "no GPU beyond 6 replicas", _diurnal, setting=Setting(slots=6)),
    Scenario(
        "outage",
        "3 minutes without metrics, 10 % of scrapes lost",
        _flat,
        setting=Setting(outages=((1200.0, 1380.0),), scrape_loss=0.1),
    ),
    Scenario(
        "crash", "the busiest replica dies, twice", _flat, setting=Setting(crashes=(1200.0, 2400.0))
    ),
    Scenario("loop", "300 clients that wait for their answers", _flat, loop=300),
)
SCENARIOS: Mapping[str, Scenario] = {one.name: one for one in _SCENARIOS}
"""By name, in the order in which they are shown."""
