"""The gateway's choices on the labelled requests, beside the simplest other ways to choose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from glm_dev.routing.requests import FOLDER, Labelled
from glm_serving.gateway import facts, priors
from glm_serving.gateway.config import FLAGSHIP, FLASH, Config, parse
from glm_serving.gateway.decide import Hints, State, decide
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.policy import Policy, TierPolicy, policy_of
from glm_serving.gateway.reasons import CLIENT_NAMED_TIER

USD_PER_MILLION_INPUT = 0.30
USD_PER_MILLION_OUTPUT = 0.90
"""Hosted price of GLM-4.6V (facts/glm-4.6v.yaml); that of GLM-4.6V-Flash is zero."""
OUTPUT_TOKENS = 500
"""Taken for every answer, since nobody knows it before."""
LONG_TOKENS = 2000
"""Where the choice by length alone takes the flagship."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One labelled request, decoded."""

    request: Labelled
    facts: Facts
    tier: str
    task: str
    header: str


def policy() -> Policy:
    """Flagship and flash, as the instructions of the labels say."""
    example = parse((FOLDER.parent / "gateway-config.json").read_bytes())
    tiers = {
        name: msgspec.structs.replace(example.tiers[name], max_videos=1)
        for name in (FLAGSHIP, FLASH)
    }
    config: Config = msgspec.structs.replace(example, tiers=tiers)
    return policy_of(config)


def judged(requests: Sequence[Labelled]) -> list[Judged]:
    """What the gateway makes of each request."""
    rules, state = policy(), State(frozenset((FLAGSHIP, FLASH)))
    found = []
    for request in requests:
        read = facts.of_chat(request.body)
        hints = Hints(request.headers.get("x-glm-tier", ""), request.headers.get("x-glm-task", ""))
        decision = decide(read, hints, state, rules)
        found.append(Judged(request, read, decision.tier, decision.task, decision.header))
    return found


Choice = Callable[[Judged], str]
CHOICES: Mapping[str, Choice] = {
    "the gateway": lambda one: one.tier,
    "always the flagship": lambda one: FLAGSHIP,
    "always flash": lambda one: FLASH,
    "the flagship if there is an image": lambda one: (
        FLAGSHIP if one.facts.images or one.facts.videos else FLASH
    ),
    "the flagship if it is long": lambda one: (
        FLAGSHIP if one.facts.prompt_tokens > LONG_TOKENS else FLASH
    ),
}


@dataclass(frozen=True, slots=True)
class Score:
    """How one way to choose does on some requests. Shares are in percent."""

    agreement: float
    flagship: float
    """Share of requests that it sends to the flagship."""
    usd_per_thousand: float
    """Hosted price of a thousand such requests."""
    lead_lost: float
    """Mean published lead of the flagship, in points, at what flash serves: a floor, since tasks
    without a figure count as zero."""
    misfits: int
    """Requests that the tier cannot hold, or that named another one."""


def score(found: Sequence[Judged], choice: Choice) -> Score:
    """How a way to choose does."""
    tiers = {tier.name: tier for tier in policy().tiers}
    chosen = [(one, choice(one)) for one in found]
    dear = [one for one, tier in chosen if tier == FLAGSHIP]
    usd = sum(
        one.facts.prompt_tokens * USD_PER_MILLION_INPUT + OUTPUT_TOKENS * USD_PER_MILLION_OUTPUT
        for one in dear
    )
    lost = sum(priors.LEADS.get(one.request.task, 0.0) for one, tier in chosen if tier == FLASH)
    misfits = [one for one, tier in chosen if _is_misfit(one, tiers[tier])]
    return Score(
        agreement=100 * sum(tier == one.request.tier for one, tier in chosen) / len(found),
        flagship=100 * len(dear) / len(found),
        usd_per_thousand=usd / 1e6 / len(found) * 1000,
        lead_lost=lost / len(found),
        misfits=len(misfits),
    )


def _is_misfit(one: Judged, tier: TierPolicy) -> bool:
    read = one.facts
    if one.header == CLIENT_NAMED_TIER.name:
        return tier.name != one.tier
    return not tier.holds(read.images, read.videos, read.prompt_tokens, read.max_tokens)
