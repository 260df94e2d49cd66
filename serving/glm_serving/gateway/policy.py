"""The part of the configuration that decisions rest on, and what each tier can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from glm_serving.gateway.config import TIERS, Config, client_names
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.reasons import (
    CONTEXT_TOO_LONG,
    TOO_MANY_IMAGES,
    UNSUPPORTED_MODALITY,
)
from glm_serving.gateway.rules import Degradation, Rule

ESTIMATE_MARGIN = 1.1
"""The estimate of the prompt may be this much too low before a tier is called too small."""


@dataclass(frozen=True, slots=True)
class TierPolicy:
    """What a tier can hold."""

    name: str
    context_tokens: int
    max_images: int
    max_videos: int
    joining: bool = False
    """It has not served yet, and others have: it is not chosen, and may be named."""

    def holds(self, images: int, videos: int, prompt_tokens: int, max_tokens: int) -> bool:
        """Whether a conversation fits, by the estimate of its tokens."""
        return (
            prompt_tokens * ESTIMATE_MARGIN + max_tokens <= self.context_tokens
            and images <= self.max_images
            and videos <= self.max_videos
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What decisions rest on beside the request and the live state."""

    names: Mapping[str, str]
    """Model name of a client -> `auto` or a tier."""
    tiers: tuple[TierPolicy, ...]
    tolerance_points: float
    rules: tuple[Rule, ...] = ()
    degradation: Degradation = Degradation.HOLD
    headers: frozenset[bytes] = field(default_factory=frozenset)
    """Names of the headers that rules look at."""


def policy_of(config: Config) -> Policy:
    """The policy in a configuration."""
    tiers = tuple(
        TierPolicy(name, tier.context_tokens, tier.max_images, tier.max_videos, tier.joining)
        for name in TIERS
        if (tier := config.tiers.get(name))
    )
    return Policy(
        names=client_names(config),
        tiers=tiers,
        tolerance_points=config.quality_tolerance_points,
        rules=config.rules,
        degradation=config.degradation,
        headers=frozenset(name.encode() for rule in config.rules for name in rule.match.headers),
    )


def largest_or_refuse(facts: Facts, allowed: Sequence[TierPolicy], way_out: WayOut) -> TierPolicy:
    """The roomiest tier when only an estimate speaks against it; else the refusal.

    The engine counts tokens exactly, so the gateway refuses on a lower bound alone.

    Raises:
        Refusal: no allowed tier can hold the request.
    """
    able = [tier for tier in allowed if facts.videos <= tier.max_videos]
    if not able:
        most = max(tier.max_videos for tier in allowed)
        elsewhere = [t.name for t in way_out.tiers if facts.videos <= t.max_videos]
        raise _too_much("videos", facts.videos, most, way_out.to(elsewhere))
    able = [tier for tier in able if facts.images <= tier.max_images]
    if not able:
        most = max(tier.max_images for tier in allowed)
        elsewhere = [t.name for t in way_out.tiers if facts.images <= t.max_images]
        raise _too_much("images", facts.images, most, way_out.to(elsewhere))
    largest = max(able, key=lambda tier: tier.context_tokens)
    least = facts.min_prompt_tokens + facts.max_tokens
    if least > largest.context_tokens:
        raise Refusal(
            CONTEXT_TOO_LONG,
            f"the request asks for at least {least} tokens of context (prompt and max_tokens): "
            f"the largest tier that may serve has {largest.context_tokens}",
            "messages",
        )
    return largest


def _too_much(kind: str, count: int, most: int, way_out: str) -> Refusal:
    images = kind == "images" and most > 0
    able = f"at most {most} can be served" if most else "no tier that may serve takes any"
    return Refusal(
        TOO_MANY_IMAGES if images else UNSUPPORTED_MODALITY,
        f"the request has {count} {kind}: {able}{way_out}",
        "messages",
    )


@dataclass(frozen=True, slots=True)
class WayOut:
    """How a client reaches a tier that takes what its own choice does not."""

    names: Mapping[str, str]
    tiers: Sequence[TierPolicy]
    """Those that the client may use."""
    by_header: bool
    """The client chose by `x-glm-tier`, which a model name would not change."""

    def to(self, elsewhere: Sequence[str]) -> str:
        """The end of a sentence; empty where no tier takes it."""
        if not elsewhere:
            return ""
        named = [name for name, target in self.names.items() if target == elsewhere[0]]
        # An alias may have taken the name of the tier.
        if self.by_header or not named:
            return f"; send x-glm-tier: {elsewhere[0]}"
        return f"; use the model {named[0]}"
