"""Which tier serves a request: a pure function of facts, state and policy.

Order: names that the client may use, what each tier can hold, the tier that the client named,
an open tool loop, then the priors. See docs/gateway.md.

The tier text has no vision. What it can hold keeps media from it, so nothing here says so twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from glm_serving.gateway import priors, tasks
from glm_serving.gateway.config import (
    AUTO,
    FLAGSHIP,
    FLASH,
    TEXT,
    TIERS,
    Config,
    client_names,
)
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts, Opening
from glm_serving.gateway.reasons import (
    CLIENT_NAMED_TIER,
    CONTEXT_TOO_LONG,
    INVALID_REQUEST,
    LEAD_ABOVE_TOLERANCE,
    LEAD_WITHIN_TOLERANCE,
    MODEL_NOT_FOUND,
    NO_PUBLISHED_LEAD,
    ONLY_TIER,
    ONLY_TIER_THAT_FITS,
    ONLY_TIER_WITH_VISION,
    OPEN_TOOL_LOOP,
    TEXT_ONLY,
    TEXT_WITH_TOOLS,
    TOO_MANY_IMAGES,
    UNSUPPORTED_MODALITY,
    Reason,
)

FOR_TEXT = (TEXT, FLASH, FLAGSHIP)
"""The tiers in the order in which each kind of request wants them: the first that fits serves."""
FOR_TEXT_WITH_TOOLS = (TEXT, FLAGSHIP, FLASH)
FOR_HARD_TASKS = (FLAGSHIP, FLASH, TEXT)
FOR_EASY_TASKS = (FLASH, FLAGSHIP, TEXT)

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


@dataclass(frozen=True, slots=True)
class Policy:
    """The part of the configuration that decisions rest on."""

    names: Mapping[str, str]
    """Model name of a client -> `auto` or a tier."""
    tiers: tuple[TierPolicy, ...]
    tolerance_points: float

    @property
    def choice(self) -> tuple[TierPolicy, ...]:
        """The tiers that the gateway chooses from by itself."""
        return tuple(tier for tier in self.tiers if not tier.joining) or self.tiers


@dataclass(frozen=True, slots=True)
class Hints:
    """What the client's headers ask for."""

    tier: str = ""
    task: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The live state: tiers with a replica that takes a request now."""

    serving: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier that serves, why, and whether the request waits for a replica."""

    tier: str
    reason: Reason
    task: str = ""
    hold: bool = False


def policy_of(config: Config) -> Policy:
    """The policy in a configuration."""
    tiers = tuple(
        TierPolicy(name, tier.context_tokens, tier.max_images, tier.max_videos, tier.joining)
        for name in TIERS
        if (tier := config.tiers.get(name))
    )
    return Policy(client_names(config), tiers, config.quality_tolerance_points)


def decide(facts: Facts, hints: Hints, state: State, policy: Policy) -> Decision:
    """Choose the tier of one request.

    Raises:
        Refusal: no tier has the name, or none that may serve can hold the request.
    """
    named = _named_tier(facts.model, hints, policy)
    choice = policy.choice
    allowed = choice if named == AUTO else tuple(t for t in policy.tiers if t.name == named)
    fitting = tuple(t for t in allowed if _fits(facts, t))
    if not fitting:
        fitting = (_largest_or_refuse(facts, hints, policy, allowed),)
    if named != AUTO:
        tier, reason, task = named, CLIENT_NAMED_TIER, hints.task
    else:
        tier, reason, task = _among(facts, hints, policy.tolerance_points, choice, fitting)
    return Decision(tier, reason, task, hold=tier not in state.serving)


def _named_tier(model: str, hints: Hints, policy: Policy) -> str:
    named = policy.names.get(model)
    if named is None:
        known = ", ".join(sorted(policy.names))
        raise Refusal(MODEL_NOT_FOUND, f"no model is named {model[:100]!r}: use {known}", "model")
    if hints.task and hints.task not in priors.TASKS:
        use = ", ".join(priors.TASKS)
        raise Refusal(INVALID_REQUEST, f"x-glm-task is {hints.task[:100]!r}: use {use}")
    if not hints.tier:
        return named
    tiers = [tier.name for tier in policy.tiers]
    if hints.tier not in tiers:
        raise Refusal(
            INVALID_REQUEST, f"x-glm-tier is {hints.tier[:100]!r}: use {' or '.join(tiers)}"
        )
    return hints.tier


def _fits(facts: Facts, tier: TierPolicy) -> bool:
    tokens = facts.prompt_tokens * ESTIMATE_MARGIN + facts.max_tokens
    return (
        tokens <= tier.context_tokens
        and facts.images <= tier.max_images
        and facts.videos <= tier.max_videos
    )


def _largest_or_refuse(
    facts: Facts, hints: Hints, policy: Policy, allowed: tuple[TierPolicy, ...]
) -> TierPolicy:
    """The roomiest tier when only an estimate speaks against it; else the refusal.

    The engine counts tokens exactly, so the gateway refuses on a lower bound alone.
    """
    able = [t for t in allowed if facts.videos <= t.max_videos]
    if not able:
        most = max(t.max_videos for t in allowed)
        elsewhere = [t.name for t in policy.tiers if facts.videos <= t.max_videos]
        raise _too_much("videos", facts.videos, most, _way_out(elsewhere, hints, policy))
    able = [t for t in able if facts.images <= t.max_images]
    if not able:
        most = max(t.max_images for t in allowed)
        elsewhere = [t.name for t in policy.tiers if facts.images <= t.max_images]
        raise _too_much("images", facts.images, most, _way_out(elsewhere, hints, policy))
    largest = max(able, key=lambda t: t.context_tokens)
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


def _way_out(elsewhere: list[str], hints: Hints, policy: Policy) -> str:
    """How the client reaches a tier that takes its media; empty where there is none."""
    if not elsewhere:
        return ""
    named = [name for name, target in policy.names.items() if target == elsewhere[0]]
    # An alias may have taken the name of the tier.
    by_header = hints.tier or not named
    return f"; send x-glm-tier: {elsewhere[0]}" if by_header else f"; use the model {named[0]}"


def _among(
    facts: Facts,
    hints: Hints,
    tolerance: float,
    choice: tuple[TierPolicy, ...],
    fitting: tuple[TierPolicy, ...],
) -> tuple[str, Reason, str]:
    if len(choice) == 1:
        return choice[0].name, ONLY_TIER, hints.task
    if len(fitting) == 1:
        return fitting[0].name, ONLY_TIER_THAT_FITS, hints.task
    names = [tier.name for tier in fitting]
    order, reason, task = _by_priors(facts, hints, tolerance)
    if task and sum(tier.name != TEXT for tier in choice) == 1:
        reason = ONLY_TIER_WITH_VISION
    tier = next(name for name in order if name in names)
    return tier, OPEN_TOOL_LOOP if facts.in_tool_loop else reason, task


def _by_priors(facts: Facts, hints: Hints, tolerance: float) -> tuple[tuple[str, ...], Reason, str]:
    """By the published lead at the task of the opening: the same for every step of a loop."""
    opening = facts.opening
    tools = facts.tools > 0 or facts.in_tool_loop
    if not hints.task and not opening.images and not opening.videos:
        # What a screen tool answers with is likely to be an image.
        order = FOR_HARD_TASKS if facts.screen_tools else FOR_TEXT_WITH_TOOLS
        return (order, TEXT_WITH_TOOLS, "") if tools else (FOR_TEXT, TEXT_ONLY, "")
    task = hints.task or _inferred(opening, facts.screen_tools, tools)
    if not task:
        return FOR_HARD_TASKS, NO_PUBLISHED_LEAD, ""
    if priors.LEADS[task] < tolerance:
        return FOR_EASY_TASKS, LEAD_WITHIN_TOLERANCE, task
    return FOR_HARD_TASKS, LEAD_ABOVE_TOLERANCE, task


def _inferred(opening: Opening, screen_tools: bool, tools: bool) -> str:
    if opening.videos:
        return ""
    return tasks.infer(opening.text, screen_tools, tools) or ""
