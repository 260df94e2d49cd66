"""Rules of the object, what a key may use, and what happens while the chosen tier is away."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway_fakes import chat, config
from glm_serving.gateway import facts, priors
from glm_serving.gateway.config import Config, parse
from glm_serving.gateway.decide import RANK, Decision, Hints, State, decide
from glm_serving.gateway.errors import ConfigError, Refusal
from glm_serving.gateway.facts import Facts, Opening
from glm_serving.gateway.policy import Policy, policy_of
from glm_serving.gateway.rules import Degradation, Match, Presence, Rule

EVERY = ("flagship", "flash", "text")
BOTH = ("flagship", "flash")
ALL_SERVE = State(frozenset(EVERY))
PHOTO = Facts("glm", images=1, opening=Opening(images=1))
PLAIN = Facts("glm")
HARD = Hints(task="gui-agent")
"""The priors send it to the flagship."""


def with_videos(tiers: tuple[str, ...] = BOTH, **changes: Any) -> Config:
    base = config(tiers, **changes)
    roomy = {
        name: msgspec.structs.replace(tier, max_videos=0 if name == "text" else 2)
        for name, tier in base.tiers.items()
    }
    return msgspec.structs.replace(base, tiers=roomy)


def policy(*rules: Rule, tiers: tuple[str, ...] = BOTH, **changes: Any) -> Policy:
    return policy_of(with_videos(tiers, rules=rules, **changes))


CASES = {
    "tasks": (
        Match(tasks=("gui-agent",)),
        (PHOTO, HARD),
        (PHOTO, Hints(task="design-to-code")),
    ),
    "minImages": (Match(min_images=2), (replace(PHOTO, images=2), HARD), (PHOTO, HARD)),
    "hasVideo": (
        Match(has_video=Presence.REQUIRED),
        (replace(PHOTO, videos=1), HARD),
        (PHOTO, HARD),
    ),
    "hasVideo not": (
        Match(has_video=Presence.EXCLUDED),
        (PHOTO, HARD),
        (replace(PHOTO, videos=1), HARD),
    ),
    "hasTools": (
        Match(has_tools=Presence.REQUIRED),
        (replace(PHOTO, tools=1), HARD),
        (PHOTO, HARD),
    ),
    "hasTools not": (
        Match(has_tools=Presence.EXCLUDED),
        (PHOTO, HARD),
        (replace(PHOTO, tools=1), HARD),
    ),
    "inToolLoop not": (
        Match(in_tool_loop=Presence.EXCLUDED),
        (PHOTO, HARD),
        (replace(PHOTO, model="glm-4.6v"), HARD),
    ),
    "minContextTokens": (
        Match(min_context_tokens=900),
        (replace(PHOTO, prompt_tokens=900), HARD),
        (replace(PHOTO, prompt_tokens=899), HARD),
    ),
    "headers": (
        Match(headers={"x-team": "batch", "x-step": "1"}),
        (PHOTO, replace(HARD, headers={"x-team": "batch", "x-step": "1"})),
        (PHOTO, replace(HARD, headers={"x-team": "batch", "x-step": ""})),
    ),
    "models": (Match(models=("gpt-4o",)), (replace(PHOTO, model="gpt-4o"), HARD), (PHOTO, HARD)),
    "nothing": (Match(), (PHOTO, HARD), (replace(PHOTO, model="glm-4.6v"), HARD)),
}


@pytest.mark.parametrize("case", CASES)
def test_each_key_of_a_rule_has_an_example_and_a_counterexample(case: str) -> None:
    match, yes, no = CASES[case]
    ruled = policy(Rule("mine", "flash", match))
    matched, missed = decide(*yes, ALL_SERVE, ruled), decide(*no, ALL_SERVE, ruled)
    assert (matched.tier, matched.header) == ("flash", "Rule/mine")
    assert (missed.tier, missed.rule) == ("flagship", "")


def test_a_rule_for_loops_moves_one_up_and_leaves_the_request_before_it_alone() -> None:
    ruled = policy(Rule("agents", "flagship", Match(in_tool_loop=Presence.REQUIRED)))
    began = replace(PHOTO, opening=Opening(images=1), tools=1)
    hints = Hints(task="general")
    assert decide(began, hints, ALL_SERVE, ruled).header == "LeadWithinTolerance"
    step = decide(replace(began, in_tool_loop=True), hints, ALL_SERVE, ruled)
    assert (step.tier, step.header) == ("flagship", "Rule/agents")


def test_the_first_rule_that_matches_wins() -> None:
    rules = [Rule("one", "flash", Match(min_images=1)), Rule("two", "flagship")]
    assert decide(PHOTO, HARD, ALL_SERVE, policy(*rules)).rule == "one"
    assert decide(PLAIN, HARD, ALL_SERVE, policy(*rules)).rule == "two"


def test_a_rule_whose_tier_cannot_hold_the_request_is_passed_over() -> None:
    ruled = policy(Rule("cheap", "text"), Rule("next", "flash"), tiers=EVERY)
    assert decide(PLAIN, Hints(), ALL_SERVE, ruled).rule == "cheap"
    assert decide(PHOTO, HARD, ALL_SERVE, ruled).rule == "next"
    assert decide(replace(PHOTO, images=9), HARD, ALL_SERVE, ruled).header == "OnlyTierThatFits"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ({"name": "a", "tier": "text"}, "rules.a.tier is 'text': use flagship or flash"),
        ({"name": "A b", "tier": "flash"}, "rules has the name 'A b': use a-z, 0-9 and -"),
        (
            {"name": "a", "tier": "flash", "match": {"tasks": ["poetry"]}},
            "rules.a.match.tasks has 'poetry': use gui-agent",
        ),
        (
            {"name": "a", "tier": "flash", "match": {"headers": {"authorization": "x"}}},
            "rules.a.match.headers has 'authorization': use a name in small letters",
        ),
        (
            {"name": "a", "tier": "flash", "match": {"headers": {"X-Team": "x"}}},
            "rules.a.match.headers has 'X-Team': use a name in small letters",
        ),
        (
            {"name": "a", "tier": "flash", "match": {"headers": {"x-team": ""}}},
            "rules.a.match.headers has no value for 'x-team': write one",
        ),
        (
            {"name": "a", "tier": "flash", "match": {"models": ["house-vision"]}},
            "rules.a.match.models has 'house-vision': rules judge only glm, gpt-4o",
        ),
        ({"name": "a", "tier": "flash", "match": {"minImages": -1}}, r"Expected `int` >= 0"),
    ],
)
def test_a_rule_that_could_never_do_what_it_says_is_refused(
    rule: dict[str, Any], sentence: str
) -> None:
    document = json.loads(msgspec.json.encode(config(BOTH)))
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(document | {"rules": [rule]}).encode())
    assert sentence in str(caught.value)


def test_a_name_is_given_to_one_rule() -> None:
    document = json.loads(msgspec.json.encode(config(BOTH)))
    document["rules"] = [{"name": "a", "tier": "flash"}] * 2
    with pytest.raises(ConfigError, match="rules has 'a' twice: rename one"):
        parse(json.dumps(document).encode())


# --- what an API key may use


def test_a_key_is_served_by_its_tiers_only() -> None:
    hints = replace(HARD, allowed=frozenset({"flash"}))
    decision = decide(PHOTO, hints, ALL_SERVE, policy())
    assert (decision.tier, decision.header) == ("flash", "OnlyTierForKey")


@pytest.mark.parametrize(
    ("model", "hints", "sentence"),
    [
        ("glm-4.6v", Hints(), "the API key may not use the tier flagship: use flash"),
        ("house-vision", Hints(), "the API key may not use the tier flagship: use flash"),
        ("glm", Hints(tier="flagship"), "the API key may not use the tier flagship: use flash"),
    ],
)
def test_a_tier_that_the_key_may_not_use_is_refused(
    model: str, hints: Hints, sentence: str
) -> None:
    with pytest.raises(Refusal) as caught:
        decide(Facts(model), replace(hints, allowed=frozenset({"flash"})), ALL_SERVE, policy())
    assert (caught.value.reason.status, str(caught.value)) == (403, sentence)


def test_a_key_for_tiers_that_are_not_served_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        decide(PLAIN, Hints(allowed=frozenset({"text"})), ALL_SERVE, policy())
    assert caught.value.reason.name == "TierNotPermitted"


def test_a_refusal_names_no_tier_that_the_key_may_not_use() -> None:
    hints = Hints(allowed=frozenset({"flash"}))
    with pytest.raises(Refusal) as caught:
        decide(replace(PHOTO, images=9), hints, ALL_SERVE, policy())
    assert str(caught.value) == "the request has 9 images: at most 8 can be served"


# --- while the chosen tier takes no request


def away(found: Facts, hints: Hints, serving: set[str], degradation: Degradation) -> Decision:
    return decide(
        found, hints, State(frozenset(serving)), policy(tiers=EVERY, degradation=degradation)
    )


def test_hold_waits_for_the_chosen_tier() -> None:
    decision = away(PHOTO, HARD, {"flash"}, Degradation.HOLD)
    assert (decision.tier, decision.hold, decision.spares) == ("flagship", True, ())


def test_degrade_takes_a_tier_that_serves_and_says_so() -> None:
    decision = away(PHOTO, HARD, {"flash"}, Degradation.DEGRADE)
    assert (decision.tier, decision.hold) == ("flash", False)
    assert (decision.chosen, decision.degraded) == ("flagship", "flagship")
    assert decision.header == "LeadAboveTolerance"


def test_degrade_to_a_stronger_tier_is_no_degradation() -> None:
    decision = away(PHOTO, Hints(task="general"), {"flagship"}, Degradation.DEGRADE)
    assert (decision.tier, decision.chosen, decision.degraded) == ("flagship", "flash", "")


def test_degrade_waits_where_no_other_tier_can_hold_the_request() -> None:
    decision = away(replace(PHOTO, images=9), HARD, {"flash", "text"}, Degradation.DEGRADE)
    assert (decision.tier, decision.hold, decision.degraded) == ("flagship", True, "")


def test_degrade_never_touches_what_the_client_named() -> None:
    decision = away(PHOTO, Hints(tier="flagship"), {"flash"}, Degradation.DEGRADE)
    assert (decision.tier, decision.hold, decision.spares) == ("flagship", True, ())


def test_degrade_names_the_tiers_that_may_serve_if_the_chosen_one_fails() -> None:
    decision = away(PHOTO, HARD, {"flagship", "flash"}, Degradation.DEGRADE)
    assert (decision.tier, decision.spares, decision.degraded) == ("flagship", ("flash",), "")


@pytest.mark.parametrize(
    ("task", "serving", "tier"),
    [("gui-agent", {"flash"}, "flagship"), ("general", {"flagship"}, "flagship")],
)
def test_an_open_loop_waits_or_moves_up_and_never_down(
    task: str, serving: set[str], tier: str
) -> None:
    step = replace(PHOTO, in_tool_loop=True, tools=1)
    decision = away(step, Hints(task=task), serving, Degradation.DEGRADE)
    assert (decision.tier, decision.degraded) == (tier, "")
    assert decision.hold == (tier not in serving)


def test_reject_refuses_only_while_no_replica_takes_it() -> None:
    assert away(PHOTO, HARD, {"flash"}, Degradation.REJECT).reject
    assert not away(PHOTO, HARD, {"flagship"}, Degradation.REJECT).reject


# --- loops, whatever the rules

MATCHES = st.builds(
    Match,
    tasks=st.sampled_from([(), ("general",), ("gui-agent", "general")]),
    min_images=st.integers(0, 4),
    has_video=st.sampled_from(list(Presence)),
    has_tools=st.sampled_from(list(Presence)),
    in_tool_loop=st.sampled_from(list(Presence)),
    min_context_tokens=st.sampled_from([0, 500, 2000]),
)
RULES = st.lists(st.builds(Rule, st.just("r"), st.sampled_from(EVERY), MATCHES), max_size=4)
STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 900)), min_size=1, max_size=20
)


@given(RULES, STEPS, st.sampled_from(["", *priors.TASKS]), st.integers(0, 2))
def test_no_rules_make_a_loop_fall(
    rules: list[Rule], steps: list[tuple[int, int, int]], task: str, images: int
) -> None:
    ruled = policy(*rules, tiers=EVERY)
    opening = Opening(images=images, prompt_tokens=400)
    found = Facts("glm", images=images, prompt_tokens=400, tools=1, opening=opening)
    ranks = [RANK[decide(found, Hints(task=task), ALL_SERVE, ruled).tier]]
    for more_images, more_videos, more_tokens in steps:
        found = replace(
            found,
            in_tool_loop=True,
            images=found.images + more_images,
            videos=min(found.videos + more_videos, 2),
            prompt_tokens=found.prompt_tokens + more_tokens,
        )
        if found.images > 16:
            break
        ranks.append(RANK[decide(found, Hints(task=task), ALL_SERVE, ruled).tier])
    assert ranks == sorted(ranks)


@given(RULES, st.integers(0, 16), st.integers(0, 2), st.sampled_from(list(Degradation)))
def test_no_rule_breaks_a_hard_constraint(
    rules: list[Rule], images: int, videos: int, degradation: Degradation
) -> None:
    assume(images or not videos)
    ruled = policy(*rules, tiers=EVERY, degradation=degradation)
    found = Facts("glm", images=images, videos=videos, opening=Opening(images, videos))
    for serving in (set(EVERY), {"text"}, {"flash"}, set()):
        decision = decide(found, Hints(), State(frozenset(serving)), ruled)
        for name in (decision.tier, *decision.spares):
            tier = next(tier for tier in ruled.tiers if tier.name == name)
            assert images <= tier.max_images
            assert videos <= tier.max_videos


@pytest.mark.parametrize("steps", [1, 5])
def test_the_opening_of_a_loop_has_the_tokens_of_the_request_that_opened_it(steps: int) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You find parts."},
        {"role": "user", "content": "Find the broken part. " * 20},
    ]
    opened = facts.of_chat(chat(messages=messages, tools=[tool]))
    for step in range(steps):
        call = {"id": str(step), "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": str(step), "content": "no " * 50})
    now = facts.of_chat(chat(messages=messages, tools=[tool]))
    assert now.opening == opened.opening
    assert now.opening.prompt_tokens + now.tool_tokens == opened.prompt_tokens < now.prompt_tokens


TEXTS = st.text(alphabet=st.sampled_from('ab {}",:1\n\u4e2d.'), max_size=3000)


@settings(max_examples=50)
@given(st.lists(TEXTS, min_size=1, max_size=20), st.booleans())
def test_a_loop_that_grows_never_seems_to_shrink(results: list[str], screenshots: bool) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Find the broken part."}]
    sizes: list[int] = []
    for step, result in enumerate(results):
        call = {"id": str(step), "type": "function", "function": {"name": "f", "arguments": "{}"}}
        calls = {"role": "assistant", "content": None, "reasoning_content": "Hm. " * 9}
        messages.append({**calls, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": str(step), "content": result})
        if screenshots:
            messages.append({"role": "user", "content": "The screen after that."})
        found = facts.of_chat(chat(messages=messages))
        sizes.append(found.prompt_tokens - found.tool_tokens)
    assert sizes == sorted(sizes)
