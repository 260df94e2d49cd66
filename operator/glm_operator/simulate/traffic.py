"""Requests that arrive: generators with the statistics of published traces, and files of one's own.

Lengths follow the ServeGen image trace (text 580 tokens on average with a heavy tail, 1.6 images
of 678 tokens, answers of 128), arrivals are bursty per client (Gamma gaps with CV 1 to 5, the
five largest clients send 56 %).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from glm_operator.simulate.engine import Request

Rate = Callable[[float], float]
"""Requests per second at a time."""
_IMAGE_TOKENS = ((0.25, 252), (0.5, 690), (0.85, 1196), (1.0, 1224))
_IMAGE_COUNTS = ((0.80, 1), (0.88, 2), (0.94, 3), (0.98, 4), (0.997, 9), (1.0, 32))
_CLIENTS = 20


@dataclass(frozen=True, slots=True)
class Mix:
    """What requests are like."""

    with_images: float = 0.6
    """Share of the requests."""
    image_factor: float = 1.0
    """So many times the images."""
    output_factor: float = 1.0


Mixes = Callable[[float], Mix]
"""The mix at a time."""


def arrivals(rate: Rate, seconds: float, seed: int, bursty: bool = True) -> list[float]:
    """Moments of arrival of many clients whose rates add up to `rate`."""
    chance = random.Random(f"arrivals {seed}")
    weights = [1.0 / (index + 1) ** 1.1 for index in range(_CLIENTS)]
    total = sum(weights)
    moments: list[float] = []
    for weight in weights:
        cv = chance.choice((1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 4.5, 5.0)) if bursty else 1.0
        moments += _client(chance, rate, weight / total, cv, seconds)
    return sorted(moments)


def _client(
    chance: random.Random, rate: Rate, share: float, cv: float, seconds: float
) -> Iterator[float]:
    """A Gamma renewal process in time that runs as fast as the client sends."""
    shape = 1.0 / (cv * cv)
    now, step = 0.0, 1.0
    left = chance.gammavariate(shape, 1.0 / shape) * chance.random()
    while now < seconds:
        pace = rate(now) * share
        if pace * step < left:
            left -= pace * step
            now += step
            step = 1.0
            continue
        now += left / pace
        if now < seconds:
            yield now
        step = 1.0 - (now - math.floor(now)) or 1.0
        left = chance.gammavariate(shape, 1.0 / shape)


def requests(moments: Sequence[float], mixes: Mixes, seed: int) -> list[Request]:
    """Requests of the mix at each moment."""
    return drawn(random.Random(f"lengths {seed}"), moments, mixes)


def drawn(chance: random.Random, moments: Sequence[float], mixes: Mixes) -> list[Request]:
    """Requests of the mix at each moment, from a source of chance."""
    return [_request(chance, at, mixes(at)) for at in moments]


def _request(chance: random.Random, at: float, mix: Mix) -> Request:
    text = min(20_000, max(8, int(chance.lognormvariate(4.9, 1.6))))
    images = 0
    if chance.random() < mix.with_images:
        count = max(1, round(_pick(chance, _IMAGE_COUNTS) * mix.image_factor))
        images = sum(_pick(chance, _IMAGE_TOKENS) for _ in range(min(count, 64)))
    output = max(1, int(chance.lognormvariate(4.5, 0.85) * mix.output_factor))
    return Request(at, text, images, min(output, 8192))


def _pick(chance: random.Random, table: Sequence[tuple[float, int]]) -> int:
    drawn = chance.random()
    return next(value for share, value in table if drawn <= share)
