"""The decision: tables, and what holds for every request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_fakes import PNG_640x480, chat, config
from glm_serving.gateway import facts, priors
from glm_serving.gateway.config import Config
from glm_serving.gateway.decide import Decision, Hints, State, decide
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts, Opening
from glm_serving.gateway.policy import policy_of

POLICY = policy_of(config())
BOTH = State(frozenset({"flagship", "flash"}))
CLICK = [{"type": "function", "function": {"name": "click"}}]
LOOKUP = [{"type": "function", "function": {"name": "lookup_part"}}]


def ask(text: str = "hello", images: int = 0, **fields: Any) -> Facts:
    parts: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": PNG_640x480}} for _ in range(images)
    ]
    content = [*parts, {"type": "text", "text": text}]
    fields.setdefault("messages", [{"role": "user", "content": content}])
    return facts.of_chat(chat(**fields))


def choose(found: Facts, hints: Hints | None = None, base: Config | None = None) -> tuple[str, str]:
    policy = policy_of(base) if base else POLICY
    decision = decide(found, hints or Hints(), BOTH, policy)
    return decision.tier, decision.reason.name


@pytest.mark.parametrize(
    ("model", "tier", "reason"),
    [
        ("glm", "flash", "TextOnly"),
        ("gpt-4o", "flash", "TextOnly"),
        ("glm-4.6v", "flagship", "ClientNamedTier"),
        ("glm-4.6v-flash", "flash", "ClientNamedTier"),
        ("house-vision", "flagship", "ClientNamedTier"),
    ],
)
def test_client_names(model: str, tier: str, reason: str) -> None:
    assert choose(ask(model=model)) == (tier, reason)


@pytest.mark.parametrize("model", ["gpt-5", "", "auto", "flagship", "GLM"])
def test_an_unknown_name_is_refused(model: str) -> None:
    with pytest.raises(Refusal) as caught:
        choose(ask(model=model))
    assert caught.value.reason.name == "ModelNotFound"


def test_the_header_pins_a_tier_over_the_name() -> None:
    assert choose(ask(model="glm-4.6v-flash"), Hints(tier="flagship")) == (
        "flagship",
        "ClientNamedTier",
    )


@pytest.mark.parametrize("hints", [Hints(tier="text"), Hints(task="poetry")])
def test_a_header_outside_its_list_is_refused(hints: Hints) -> None:
    with pytest.raises(Refusal) as caught:
        choose(ask(), hints)
    assert caught.value.reason.name == "InvalidRequest"


@pytest.mark.parametrize(
    ("text", "images", "tools", "expected", "task"),
    [
        ("hello", 0, None, ("flash", "TextOnly"), ""),
        ("click it", 0, CLICK, ("flagship", "TextWithTools"), ""),
        ("What is this?", 1, None, ("flash", "LeadWithinTolerance"), "general"),
        ("Save it.", 1, CLICK, ("flagship", "LeadAboveTolerance"), "gui-agent"),
        ("Which part is broken?", 1, LOOKUP, ("flagship", "NoPublishedLead"), ""),
        ("Read the invoice", 1, LOOKUP, ("flash", "LeadWithinTolerance"), "ocr-and-charts"),
        ("Turn this into HTML", 1, None, ("flagship", "LeadAboveTolerance"), "design-to-code"),
        ("用前端代码实现", 1, None, ("flagship", "LeadAboveTolerance"), "design-to-code"),
        ("Transcribe the receipt", 1, None, ("flash", "LeadWithinTolerance"), "ocr-and-charts"),
        ("Solve the equation", 1, None, ("flash", "LeadWithinTolerance"), "visual-maths"),
        ("Give the bounding box", 1, None, ("flash", "LeadWithinTolerance"), "grounding"),
    ],
)
def test_priors_decide_by_task(
    text: str, images: int, tools: Any, expected: tuple[str, str], task: str
) -> None:
    found = ask(text, images, tools=tools)
    decision = decide(found, Hints(), BOTH, POLICY)
    assert (decision.tier, decision.reason.name) == expected
    assert decision.task == task


@pytest.mark.parametrize("task", priors.TASKS)
def test_a_declared_task_wins_over_the_words(task: str) -> None:
    tier, reason = choose(ask("Turn this into HTML", 1, tools=CLICK), Hints(task=task))
    small = priors.LEADS.get(task, 100) < 5
    assert tier == ("flash" if small else "flagship")
    if task not in priors.LEADS:
        assert reason == "NoPublishedLead"
    else:
        assert reason == ("LeadWithinTolerance" if small else "LeadAboveTolerance")


def test_the_leads_are_the_published_ones() -> None:
    assert dict(priors.LEADS) == {
        "gui-agent": 12.65,
        "design-to-code": 18.8,
        "ocr-and-charts": 2.1,
        "visual-maths": 4.27,
        "grounding": 3.0,
        "general": 1.28,
    }


@pytest.mark.parametrize(("tolerance", "tier"), [(4, "flagship"), (4.27, "flagship"), (5, "flash")])
def test_the_tolerance_moves_a_task(tolerance: float, tier: str) -> None:
    base = config(quality_tolerance_points=tolerance)
    assert choose(ask("Solve the equation", 1), base=base)[0] == tier


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"images": 9}, ("flagship", "OnlyTierThatFits")),
        ({"prompt_tokens": 60000}, ("flagship", "OnlyTierThatFits")),
        ({"max_tokens": 65000, "prompt_tokens": 600}, ("flagship", "OnlyTierThatFits")),
        ({"images": 8, "prompt_tokens": 50000}, ("flash", "TextOnly")),
        # Only the estimate speaks against every tier: the roomiest gets it, and its engine judges.
        ({"prompt_tokens": 200000, "min_prompt_tokens": 50000}, ("flagship", "OnlyTierThatFits")),
    ],
)
def test_what_flash_cannot_hold(changes: dict[str, int], expected: tuple[str, str]) -> None:
    found = replace(Facts("glm", opening=Opening()), **changes)
    assert choose(found) == expected


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("glm", {"images": 17}, "TooManyImages"),
        ("glm", {"videos": 1}, "UnsupportedModality"),
        ("glm", {"min_prompt_tokens": 131073, "prompt_tokens": 500000}, "ContextTooLong"),
        ("glm", {"max_tokens": 131073}, "ContextTooLong"),
        ("glm-4.6v-flash", {"images": 9}, "TooManyImages"),
        ("glm-4.6v-flash", {"max_tokens": 70000}, "ContextTooLong"),
    ],
)
def test_what_no_allowed_tier_can_hold_is_refused(
    model: str, changes: dict[str, int], reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        choose(replace(Facts(model), **changes))
    assert caught.value.reason.name == reason


@pytest.mark.parametrize("tier", ["flagship", "flash"])
def test_a_single_tier_serves_everything(tier: str) -> None:
    base = config()
    alone = msgspec.structs.replace(base, tiers={tier: base.tiers[tier]}, aliases={})
    for found in (ask(), ask("Save it.", 1, tools=CLICK)):
        assert choose(found, base=alone) == (tier, "OnlyTier")


def test_holding_follows_the_state() -> None:
    def hold(serving: set[str]) -> bool:
        return decide(ask(), Hints(), State(frozenset(serving)), POLICY).hold

    assert not hold({"flash"})
    assert hold({"flagship"})
    assert hold(set())


def loop(steps: int, image_results: bool, tools: Any = LOOKUP) -> dict[str, Any]:
    """A conversation after `steps` tool calls."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "find the broken part"}]
    for step in range(steps):
        call = {"id": str(step), "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        content: Any = "ok"
        if image_results:
            content = [{"type": "image_url", "image_url": {"url": PNG_640x480}}]
        messages.append({"role": "tool", "tool_call_id": str(step), "content": content})
    return {"messages": messages, "tools": tools}


def test_an_open_loop_keeps_its_tier_over_twenty_steps() -> None:
    tiers = [choose(ask(**loop(steps, image_results=True))) for steps in range(1, 17)]
    assert set(tiers[:8]) == {("flagship", "OpenToolLoop")}
    assert {tier for tier, _ in tiers} == {"flagship"}


def test_an_open_loop_moves_up_when_flash_cannot_hold_it() -> None:
    hints = Hints(task="ocr-and-charts")
    tiers = [choose(ask(**loop(steps, image_results=True)), hints) for steps in range(1, 13)]
    assert tiers[:8] == [("flash", "OpenToolLoop")] * 8
    assert tiers[8:] == [("flagship", "OnlyTierThatFits")] * 4


@pytest.mark.parametrize("tools", [CLICK, LOOKUP, [], None])
def test_an_open_loop_keeps_its_tier_when_a_later_step_offers_other_tools(tools: Any) -> None:
    body = loop(1, image_results=False, tools=tools)
    body["messages"][0]["content"] = [
        {"type": "image_url", "image_url": {"url": PNG_640x480}},
        {"type": "text", "text": "Read the text on this page"},
    ]
    body["messages"][1]["tool_calls"][0]["function"]["name"] = "click"
    assert choose(ask(**body)) == ("flagship", "OpenToolLoop")


def test_words_of_a_later_message_do_not_move_an_open_loop() -> None:
    body = loop(1, image_results=False)
    body["messages"][0]["content"] = [
        {"type": "image_url", "image_url": {"url": PNG_640x480}},
        {"type": "text", "text": "Read the invoice"},
    ]
    body["messages"].append({"role": "user", "content": "write HTML for it"})
    assert choose(ask(**body)) == ("flash", "OpenToolLoop")


FACTS = st.builds(
    Facts,
    model=st.sampled_from(["glm", "gpt-4o", "glm-4.6v", "glm-4.6v-flash"]),
    images=st.integers(0, 20),
    videos=st.integers(0, 1),
    prompt_tokens=st.integers(0, 200000),
    min_prompt_tokens=st.integers(0, 200000),
    max_tokens=st.integers(0, 200000),
    tools=st.integers(0, 3),
    screen_tools=st.booleans(),
    in_tool_loop=st.booleans(),
    opening=st.builds(Opening, images=st.integers(0, 3), text=st.text(max_size=60)),
)


@given(FACTS, st.sampled_from(["", "flash", "flagship"]), st.sampled_from(["", *priors.TASKS]))
def test_no_decision_breaks_a_hard_constraint(found: Facts, tier: str, task: str) -> None:
    try:
        decision = decide(found, Hints(tier, task), BOTH, POLICY)
    except Refusal:
        return
    chosen = config().tiers[decision.tier]
    assert found.images <= chosen.max_images
    assert found.videos <= chosen.max_videos
    assert found.min_prompt_tokens + found.max_tokens <= chosen.context_tokens or (
        found.prompt_tokens < found.min_prompt_tokens
    )
    if tier:
        assert decision.tier == tier


@given(FACTS)
def test_the_state_never_changes_the_tier(found: Facts) -> None:
    def tier(serving: set[str]) -> Decision | str:
        try:
            return decide(found, Hints(), State(frozenset(serving)), POLICY).tier
        except Refusal as refusal:
            return refusal.reason.name

    assert tier(set()) == tier({"flash"}) == tier({"flash", "flagship"})


@given(st.integers(1, 12), st.booleans(), st.sampled_from(["", *priors.TASKS]))
def test_a_loop_never_falls(steps: int, image_results: bool, task: str) -> None:
    order = ["flash", "flagship"]
    ranks = [
        order.index(choose(ask(**loop(n, image_results)), Hints(task=task))[0])
        for n in range(1, steps + 1)
    ]
    assert ranks == sorted(ranks)
