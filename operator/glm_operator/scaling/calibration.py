"""How dear work really is, learnt from what engines got done.

Two observations say it without doubt. An engine that did more than it was thought able to is faster
than thought. One that let requests wait all the time was as fast as it can be. What an engine does
between the two says nothing: a batch that is not full takes as long as one that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from glm_operator.scaling.work import Costs

GAIN = 0.2
"""Weight of one sample."""
SAMPLE_SECONDS = 30.0
"""Shorter samples are chance: one long prompt counts at its end."""
CHEAPEST, DEAREST = 0.05, 1000.0
"""Bounds of the factor; the dear end is vLLM on a few cores of a processor."""
FURTHEST = 4.0
"""A sample moves the factor as if it were off by no more than this."""
SATURATED_WAITING = 8
"""Requests that wait in an engine which cannot go faster; one or two wait for its next step."""
SURE = 1.5
"""By less than this a full batch alone makes tokens cheaper or dearer: it teaches nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one engine that has been ready for a while did between two looks at it."""

    seconds: float
    prompt: float
    """Tokens of prompts, of text and images."""
    images: float
    """The images' part of them."""
    output: float
    """Tokens of answers."""
    saturated: bool
    """Whether it was saturated at both looks."""


def is_saturated(waiting: int) -> bool:
    """Whether so many requests without a first token say that an engine is as fast as it can be."""
    return waiting >= SATURATED_WAITING


def calibrated(factor: float, costs: Costs, samples: Iterable[Sample]) -> float:
    """The factor of the costs after some samples."""
    for one in samples:
        thought = factor * _seconds(costs, one)
        if one.seconds < SAMPLE_SECONDS / 2 or thought <= 0:
            continue
        ratio = one.seconds / thought
        if ratio < 1 / SURE or (one.saturated and ratio > SURE):
            ratio = min(FURTHEST, max(1 / FURTHEST, ratio))
            factor *= math.exp(GAIN * math.log(ratio))
        factor = min(DEAREST, max(CHEAPEST, factor))
    return factor


def _seconds(costs: Costs, sample: Sample) -> float:
    prompts = sample.prompt * costs.prompt + sample.images * costs.image
    return prompts + sample.output * costs.output
