"""Which tier serves a request: a pure function of facts, state and policy.

Order: what the API key may use, names that the client may use, what each tier can hold, the tier
that the client named, the object's rules, an open tool loop, then the priors. What happens when
that tier takes no request now is said last. See docs/routing.md.

The tier text has no vision. What it can hold keeps media from it, so nothing here says so twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from glm_serving.gateway import priors, tasks
from glm_serving.gateway.config import AUTO, FLAGSHIP, FLASH, TEXT
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.policy import Policy, TierPolicy, WayOut, largest_or_refuse
from glm_serving.gateway.reasons import (
    CLIENT_NAMED_TIER,
    INVALID_REQUEST,
    LEAD_ABOVE_TOLERANCE,
    LEAD_WITHIN_TOLERANCE,
    MODEL_NOT_FOUND,
    NO_PUBLISHED_LEAD,
    ONLY_TIER,
    ONLY_TIER_FOR_KEY,
    ONLY_TIER_THAT_FITS,
    ONLY_TIER_WITH_VISION,
    OPEN_TOOL_LOOP,
    RULE,
    TEXT_ONLY,
    TEXT_WITH_TOOLS,
    TIER_NOT_PERMITTED,
    Reason,
)
from glm_serving.gateway.rules import Asked, Degradation, Rule, matches

FOR_TEXT = (TEXT, FLASH, FLAGSHIP)
"""The tiers in the order in which each kind of request wants them: the first that fits serves."""
FOR_TEXT_WITH_TOOLS = (TEXT, FLAGSHIP, FLASH)
FOR_HARD_TASKS = (FLAGSHIP, FLASH, TEXT)
FOR_EASY_TASKS = (FLASH, FLAGSHIP, TEXT)
BY_RULE = {FLAGSHIP: FOR_HARD_TASKS, FLASH: FOR_EASY_TASKS, TEXT: FOR_TEXT_WITH_TOOLS}
"""The order of a rule, by its tier."""

RANK = {TEXT: 0, FLASH: 1, FLAGSHIP: 2}
"""An open tool loop only moves up in this."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What the client's headers ask for, and what its API key allows."""

    tier: str = ""
    task: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Values of the headers that rules look at."""
    allowed: frozenset[str] | None = None
    """Tiers that the API key may use; None: every tier."""


@dataclass(frozen=True, slots=True)
class State:
    """The live state: tiers with a replica that takes a request now."""

    serving: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier that serves, why, and what to do if it takes no request now."""

    tier: str
    reason: Reason
    task: str = ""
    rule: str = ""
    """Name of the rule that chose."""
    wanted: str = ""
    """The tier that was chosen, where another one serves in its place; else empty."""
    hold: bool = False
    """No replica takes it now: it waits for one."""
    reject: bool = False
    """It holds, and the object says that requests do not wait."""
    spares: tuple[str, ...] = ()
    """Tiers that may serve it instead, the best first; the object allows it."""

    @property
    def header(self) -> str:
        """The value of `x-glm-decision`: the reason, with the rule's name where there is one."""
        return f"{self.reason.name}/{self.rule}" if self.rule else self.reason.name

    def moved_to(self, spare: str) -> Decision:
        """The same with another tier that serves, for the chosen one takes no request."""
        rest = self.spares[self.spares.index(spare) + 1 :]
        return replace(self, tier=spare, wanted=self.chosen, spares=rest)

    def headers(self) -> dict[bytes, bytes]:
        """What the answer's headers say of it."""
        found = {b"x-glm-tier": self.tier.encode(), b"x-glm-decision": self.header.encode()}
        return found | ({b"x-glm-degraded": self.degraded.encode()} if self.degraded else {})

    @property
    def chosen(self) -> str:
        """The tier that was chosen: whose request this is, whoever serves it."""
        return self.wanted or self.tier

    @property
    def degraded(self) -> str:
        """The tier that should have served, where a weaker one does; else empty."""
        return "" if (self.wanted, self.tier) == (FLASH, FLAGSHIP) else self.wanted


@dataclass(frozen=True, slots=True)
class _Choice:
    """The tiers that can hold a request, the wanted one first, and why."""

    tiers: tuple[str, ...]
    reason: Reason
    task: str = ""
    rule: str = ""


def decide(facts: Facts, hints: Hints, state: State, policy: Policy) -> Decision:
    """Choose the tier of one request.

    Raises:
        Refusal: no tier has the name, or none that may serve can hold the request.
    """
    permitted = _permitted(policy.tiers, hints.allowed)
    named = _named_tier(facts.model, hints, policy, permitted)
    if named != AUTO:
        allowed = tuple(tier for tier in permitted if tier.name == named)
        _fitting(facts, hints, policy, permitted, allowed)
        return _settled(facts, _Choice((named,), CLIENT_NAMED_TIER, hints.task), state, policy)
    choice = tuple(tier for tier in permitted if not tier.joining) or permitted
    fitting = _fitting(facts, hints, policy, permitted, choice)
    return _settled(facts, _choose(facts, hints, policy, choice, fitting), state, policy)


def _permitted(
    tiers: tuple[TierPolicy, ...], allowed: frozenset[str] | None
) -> tuple[TierPolicy, ...]:
    if allowed is None:
        return tiers
    permitted = tuple(tier for tier in tiers if tier.name in allowed)
    if not permitted:
        raise Refusal(TIER_NOT_PERMITTED, "the API key may use none of the tiers that are served")
    return permitted


def _named_tier(model: str, hints: Hints, policy: Policy, permitted: Sequence[TierPolicy]) -> str:
    named = policy.names.get(model)
    if named is None:
        known = ", ".join(sorted(policy.names))
        raise Refusal(MODEL_NOT_FOUND, f"no model is named {model[:100]!r}: use {known}", "model")
    if hints.task and hints.task not in priors.TASKS:
        use = ", ".join(priors.TASKS)
        raise Refusal(INVALID_REQUEST, f"x-glm-task is {hints.task[:100]!r}: use {use}")
    if hints.tier and hints.tier not in {tier.name for tier in policy.tiers}:
        use = " or ".join(tier.name for tier in policy.tiers)
        raise Refusal(INVALID_REQUEST, f"x-glm-tier is {hints.tier[:100]!r}: use {use}")
    named = hints.tier or named
    if named != AUTO and len(permitted) < len(policy.tiers):
        _check_permission(named, [tier.name for tier in permitted])
    return named


def _check_permission(named: str, permitted: Sequence[str]) -> None:
    if named not in permitted:
        use = " or ".join(permitted)
        raise Refusal(TIER_NOT_PERMITTED, f"the API key may not use the tier {named}: use {use}")


def _fitting(
    facts: Facts,
    hints: Hints,
    policy: Policy,
    permitted: Sequence[TierPolicy],
    allowed: Sequence[TierPolicy],
) -> tuple[str, ...]:
    """Names of the allowed tiers that can hold the request, in their order.

    Raises:
        Refusal: none can.
    """
    size = (facts.images, facts.videos, facts.prompt_tokens, facts.max_tokens)
    fitting = tuple(tier.name for tier in allowed if tier.holds(*size))
    if fitting:
        return fitting
    way_out = WayOut(policy.names, permitted, by_header=bool(hints.tier))
    return (largest_or_refuse(facts, allowed, way_out).name,)


def _choose(
    facts: Facts,
    hints: Hints,
    policy: Policy,
    choice: Sequence[TierPolicy],
    fitting: tuple[str, ...],
) -> _Choice:
    if len(choice) == 1:
        free = hints.allowed is None or all(tier.name in hints.allowed for tier in policy.tiers)
        return _Choice(fitting, ONLY_TIER if free else ONLY_TIER_FOR_KEY, hints.task)
    if len(fitting) == 1:
        return _Choice(fitting, ONLY_TIER_THAT_FITS, hints.task)
    order, reason, task = _by_priors(facts, hints, policy.tolerance_points)
    if facts.in_tool_loop:
        reason = OPEN_TOOL_LOOP
    elif task and sum(tier.name != TEXT for tier in choice) == 1:
        reason = ONLY_TIER_WITH_VISION
    prior = _Choice(tuple(name for name in order if name in fitting), reason, task)
    if not policy.rules:
        return prior
    if facts.in_tool_loop:
        return _by_rules_in_loop(facts, hints, policy.rules, choice, prior)
    return _by_rules(facts, hints, policy.rules, prior)


def _by_priors(facts: Facts, hints: Hints, tolerance: float) -> tuple[tuple[str, ...], Reason, str]:
    """By the published lead at the task of the opening: the same for every step of a loop."""
    opening = facts.opening
    tools = facts.tools > 0 or facts.in_tool_loop
    if not hints.task and not opening.images and not opening.videos:
        # What a screen tool answers with is likely to be an image.
        order = FOR_HARD_TASKS if facts.screen_tools else FOR_TEXT_WITH_TOOLS
        return (order, TEXT_WITH_TOOLS, "") if tools else (FOR_TEXT, TEXT_ONLY, "")
    task = hints.task or tasks.infer(opening, facts.screen_tools, tools)
    lead = priors.LEADS.get(task)
    if lead is None:
        return FOR_HARD_TASKS, NO_PUBLISHED_LEAD, task
    if lead < tolerance:
        return FOR_EASY_TASKS, LEAD_WITHIN_TOLERANCE, task
    return FOR_HARD_TASKS, LEAD_ABOVE_TOLERANCE, task


def _by_rules(facts: Facts, hints: Hints, rules: Sequence[Rule], prior: _Choice) -> _Choice:
    """The first rule that matches and whose tier can hold the request; else the priors."""
    asked = asked_now(facts, hints, prior.task)
    for rule in rules:
        if rule.tier in prior.tiers and matches(rule.match, asked):
            return _ruled(rule, prior)
    return prior


def _by_rules_in_loop(
    facts: Facts,
    hints: Hints,
    rules: Sequence[Rule],
    choice: Sequence[TierPolicy],
    prior: _Choice,
) -> _Choice:
    """The rule that held at the opening stays; one before it that comes to match may move it up.

    What is judged only ever grows in a loop, so every gateway computes the same, and no step
    falls below an earlier one.
    """
    opening = facts.opening
    tokens = opening.prompt_tokens + facts.tool_tokens
    size = (opening.images, opening.videos, tokens, facts.max_tokens)
    could = {tier.name for tier in choice if tier.holds(*size)}
    began = asked_at_opening(facts, hints, prior.task)
    first = len(rules)
    for index, rule in enumerate(rules):
        if rule.tier in could and matches(rule.match, began):
            first = index
            break
    settled = prior if first == len(rules) else _ruled(rules[first], prior)
    now = asked_now(facts, hints, prior.task)
    for rule in rules[:first]:
        moved = _ruled(rule, prior)
        if RANK[rule.tier] > RANK[settled.tiers[0]] and matches(rule.match, now):
            settled = moved
    return settled


def _ruled(rule: Rule, prior: _Choice) -> _Choice:
    tiers = tuple(name for name in BY_RULE[rule.tier] if name in prior.tiers)
    return _Choice(tiers, RULE, prior.task, rule.name)


def asked_now(facts: Facts, hints: Hints, task: str) -> Asked:
    """What rules see of a request."""
    loop = facts.in_tool_loop
    had_video = facts.opening.videos > 0 if loop else facts.videos > 0
    return Asked(
        model=facts.model,
        task=task,
        has_tools=(facts.tools > 0 or loop,),
        in_tool_loop=(False, True) if loop else (False,),
        images=facts.images,
        has_video=(had_video, facts.videos > 0),
        prompt_tokens=facts.prompt_tokens - facts.tool_tokens,
        headers=hints.headers,
    )


def asked_at_opening(facts: Facts, hints: Hints, task: str) -> Asked:
    """What rules saw of the request that opened the loop."""
    return Asked(
        model=facts.model,
        task=task,
        has_tools=(True,),
        in_tool_loop=(False,),
        images=facts.opening.images,
        has_video=(facts.opening.videos > 0,),
        prompt_tokens=facts.opening.prompt_tokens,
        headers=hints.headers,
    )


def _settled(facts: Facts, choice: _Choice, state: State, policy: Policy) -> Decision:
    """What happens while the wanted tier takes no request."""
    wanted = choice.tiers[0]
    waits = wanted not in state.serving
    spares: tuple[str, ...] = ()
    tier = wanted
    if policy.degradation is Degradation.DEGRADE:
        spares = _spares(facts, choice.tiers)
        if waits:
            tier = next((name for name in spares if name in state.serving), wanted)
    return Decision(
        tier=tier,
        reason=choice.reason,
        task=choice.task,
        rule=choice.rule,
        wanted=wanted if tier != wanted else "",
        hold=waits and tier == wanted,
        reject=waits and policy.degradation is Degradation.REJECT,
        spares=tuple(name for name in spares if name != tier),
    )


def _spares(facts: Facts, tiers: tuple[str, ...]) -> tuple[str, ...]:
    """A loop that is open is served by its own tier or a stronger one, or waits."""
    if not facts.in_tool_loop:
        return tiers[1:]
    return tuple(name for name in tiers[1:] if RANK[name] > RANK[tiers[0]])
