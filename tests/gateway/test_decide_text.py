"""The tier without vision: who goes there, who never does, in every combination of tiers."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_fakes import PNG_640x480, chat, config
from glm_serving.gateway import facts
from glm_serving.gateway.decide import Decision, Hints, State, decide
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.policy import Policy, policy_of

IMAGE = {"type": "image_url", "image_url": {"url": PNG_640x480}}
CLICK = [{"type": "function", "function": {"name": "click"}}]
LOOKUP = [{"type": "function", "function": {"name": "lookup_part"}}]
EVERY = ("flagship", "flash", "text")


def said(*content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(content)}]


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def loop(steps: int, content: Any, name: str = "lookup_part") -> list[dict[str, Any]]:
    """A conversation that opened as text, after some tool calls."""
    messages = said(words("find the broken part"))
    for step in range(steps):
        function = {"name": name, "arguments": "{}"}
        call = {"id": str(step), "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": str(step), "content": content})
    return messages


def of_chat(messages: list[dict[str, Any]], **fields: Any) -> Facts:
    return facts.of_chat(chat(messages=messages, **fields))


PLAIN = of_chat(said(words("hello")))
COMPLETION = facts.of_completion(json.dumps({"model": "glm", "prompt": "hello"}).encode())
TOOLS = of_chat(said(words("order it")), tools=LOOKUP)
SCREEN = of_chat(said(words("log in")), tools=CLICK)
EASY = of_chat(said(IMAGE, words("Read the invoice")))
HARD = of_chat(said(IMAGE, words("Turn this into HTML")))
OLD_IMAGE = of_chat(
    [*said(IMAGE), {"role": "assistant", "content": "a part"}, *said(words("and its price?"))]
)
LOOP = of_chat(loop(2, "ok"), tools=LOOKUP)
SEEN = of_chat(loop(2, [IMAGE]), tools=LOOKUP)

TABLE = {
    ("flagship", "flash"): {
        "plain": ("flash", "TextOnly"),
        "completion": ("flash", "TextOnly"),
        "tools": ("flagship", "TextWithTools"),
        "screen": ("flagship", "TextWithTools"),
        "easy": ("flash", "LeadWithinTolerance"),
        "hard": ("flagship", "LeadAboveTolerance"),
        "old image": ("flash", "LeadWithinTolerance"),
        "loop": ("flagship", "OpenToolLoop"),
        "loop that saw": ("flagship", "OpenToolLoop"),
        "declared": ("flash", "LeadWithinTolerance"),
    },
    ("flagship", "text"): {
        "plain": ("text", "TextOnly"),
        "completion": ("text", "TextOnly"),
        "tools": ("text", "TextWithTools"),
        "screen": ("flagship", "TextWithTools"),
        "easy": ("flagship", "OnlyTierThatFits"),
        "hard": ("flagship", "OnlyTierThatFits"),
        "old image": ("flagship", "OnlyTierThatFits"),
        "loop": ("text", "OpenToolLoop"),
        "loop that saw": ("flagship", "OnlyTierThatFits"),
        "declared": ("flagship", "OnlyTierWithVision"),
    },
    ("flash", "text"): {
        "plain": ("text", "TextOnly"),
        "completion": ("text", "TextOnly"),
        "tools": ("text", "TextWithTools"),
        "screen": ("flash", "TextWithTools"),
        "easy": ("flash", "OnlyTierThatFits"),
        "hard": ("flash", "OnlyTierThatFits"),
        "old image": ("flash", "OnlyTierThatFits"),
        "loop": ("text", "OpenToolLoop"),
        "loop that saw": ("flash", "OnlyTierThatFits"),
        "declared": ("flash", "OnlyTierWithVision"),
    },
    EVERY: {
        "plain": ("text", "TextOnly"),
        "completion": ("text", "TextOnly"),
        "tools": ("text", "TextWithTools"),
        "screen": ("flagship", "TextWithTools"),
        "easy": ("flash", "LeadWithinTolerance"),
        "hard": ("flagship", "LeadAboveTolerance"),
        "old image": ("flash", "LeadWithinTolerance"),
        "loop": ("text", "OpenToolLoop"),
        "loop that saw": ("flagship", "OpenToolLoop"),
        "declared": ("flash", "LeadWithinTolerance"),
    },
}
REQUESTS = {
    "plain": PLAIN,
    "completion": COMPLETION,
    "tools": TOOLS,
    "screen": SCREEN,
    "easy": EASY,
    "hard": HARD,
    "old image": OLD_IMAGE,
    "loop": LOOP,
    "loop that saw": SEEN,
    "declared": PLAIN,
}
ROWS = [
    pytest.param(tiers, request, expected, id=f"{'-'.join(tiers)} {request}")
    for tiers, rows in TABLE.items()
    for request, expected in rows.items()
]


def choose(found: Facts, tiers: tuple[str, ...], hints: Hints | None = None) -> Decision:
    policy = policy_of(config(tiers, aliases={}))
    return decide(found, hints or Hints(), State(frozenset(tiers)), policy)


def hints_of(request: str) -> Hints:
    return Hints(task="ocr-and-charts") if request == "declared" else Hints()


@pytest.mark.parametrize(("tiers", "request_", "expected"), ROWS)
def test_who_serves_in_each_combination(
    tiers: tuple[str, ...], request_: str, expected: tuple[str, str]
) -> None:
    decision = choose(REQUESTS[request_], tiers, hints_of(request_))
    assert (decision.tier, decision.reason.name) == expected


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("tier", EVERY)
def test_a_tier_alone_serves_what_it_can_see(tier: str, request_: str) -> None:
    found = REQUESTS[request_]
    if tier == "text" and found.images:
        with pytest.raises(Refusal) as caught:
            choose(found, (tier,))
        assert caught.value.reason.name == "UnsupportedModality"
    else:
        decision = choose(found, (tier,), hints_of(request_))
        assert (decision.tier, decision.reason.name) == (tier, "OnlyTier")


@pytest.mark.parametrize(
    ("tiers", "model", "header", "sentence"),
    [
        (EVERY, "glm-4.6", "", "no tier that may serve takes any; use the model glm-4.6v"),
        (("flash", "text"), "glm-4.6", "", "takes any; use the model glm-4.6v-flash"),
        (EVERY, "glm", "text", "no tier that may serve takes any; send x-glm-tier: flagship"),
        (("text",), "glm", "", "the request has 1 images: no tier that may serve takes any"),
    ],
)
def test_media_for_text_is_refused_with_the_way_out(
    tiers: tuple[str, ...], model: str, header: str, sentence: str
) -> None:
    found = of_chat(said(IMAGE), model=model)
    with pytest.raises(Refusal) as caught:
        choose(found, tiers, Hints(tier=header))
    assert caught.value.reason.name == "UnsupportedModality"
    assert str(caught.value).endswith(sentence)


def test_the_way_out_is_the_header_where_an_alias_took_the_name_of_the_tier() -> None:
    policy = policy_of(config(("flagship", "text"), aliases={"glm-4.6v": "auto"}))
    with pytest.raises(Refusal, match=r"takes any; send x-glm-tier: flagship$"):
        decide(Facts("glm-4.6", images=1), Hints(), State(), policy)


def test_a_video_goes_where_one_is_taken_and_never_to_text() -> None:
    base = config(EVERY, aliases={})
    flagship = msgspec.structs.replace(base.tiers["flagship"], max_videos=1)
    policy = policy_of(msgspec.structs.replace(base, tiers={**base.tiers, "flagship": flagship}))
    decision = decide(Facts("glm", videos=1), Hints(), State(), policy)
    assert (decision.tier, decision.reason.name) == ("flagship", "OnlyTierThatFits")
    with pytest.raises(Refusal, match=r"takes any; use the model glm-4\.6v$"):
        decide(Facts("glm-4.6", videos=1), Hints(), State(), policy)


def joining(name: str, tiers: tuple[str, ...] = EVERY) -> Policy:
    base = config(tiers, aliases={})
    late = msgspec.structs.replace(base.tiers[name], joining=True)
    return policy_of(msgspec.structs.replace(base, tiers={**base.tiers, name: late}))


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_tier_that_has_not_served_yet_changes_no_choice(request_: str) -> None:
    found, hints = REQUESTS[request_], hints_of(request_)
    decision = decide(found, hints, State(), joining("text"))
    expected = TABLE["flagship", "flash"][request_]
    assert (decision.tier, decision.reason.name) == expected


def test_a_tier_that_has_not_served_yet_is_there_for_who_names_it() -> None:
    found = of_chat(said(words("hello")), model="glm-4.6")
    decision = decide(found, Hints(), State(), joining("text"))
    assert (decision.tier, decision.hold) == ("text", True)


@pytest.mark.parametrize(("tiers", "served"), [(("flash", "text"), "flash"), (("text",), "text")])
def test_one_tier_that_has_served_is_the_only_one(tiers: tuple[str, ...], served: str) -> None:
    decision = decide(PLAIN, Hints(), State(), joining("text", tiers))
    assert (decision.tier, decision.reason.name) == (served, "OnlyTier")


def test_too_many_images_for_flash_names_the_flagship() -> None:
    with pytest.raises(Refusal) as caught:
        choose(Facts("glm-4.6v-flash", images=9), EVERY)
    assert caught.value.reason.name == "TooManyImages"
    assert "9 images: at most 8 can be served; use the model glm-4.6v" in str(caught.value)


def test_a_client_that_names_text_gets_it() -> None:
    for hints, model in ((Hints(tier="text"), "glm"), (Hints(), "glm-4.6")):
        decision = choose(of_chat(said(words("hello")), model=model), EVERY, hints)
        assert (decision.tier, decision.reason.name) == ("text", "ClientNamedTier")


def test_what_only_text_is_long_enough_for_goes_there() -> None:
    decision = choose(Facts("glm", prompt_tokens=150_000, screen_tools=True, tools=1), EVERY)
    assert (decision.tier, decision.reason.name) == ("text", "OnlyTierThatFits")


def test_a_loop_that_operates_a_screen_stays_with_the_flagship_when_tools_are_left_out() -> None:
    assert choose(of_chat(loop(1, "ok", "click")), EVERY).tier == "flagship"


FACTS = st.builds(
    Facts,
    model=st.sampled_from(["glm", "glm-4.6v", "glm-4.6v-flash", "glm-4.6"]),
    images=st.integers(0, 20),
    videos=st.integers(0, 1),
    prompt_tokens=st.integers(0, 250_000),
    max_tokens=st.integers(0, 100_000),
    tools=st.integers(0, 2),
    screen_tools=st.booleans(),
    in_tool_loop=st.booleans(),
)


@given(FACTS, st.sampled_from(["", *EVERY]), st.sampled_from(["", "general", "gui-agent"]))
def test_media_never_reach_text(found: Facts, tier: str, task: str) -> None:
    try:
        decision = choose(found, EVERY, Hints(tier, task))
    except Refusal:
        return
    assert decision.tier != "text" or not (found.images or found.videos)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.sampled_from(list(TABLE)))
def test_a_loop_never_goes_back_to_text(pictures: list[bool], tiers: tuple[str, ...]) -> None:
    messages, before = said(words("find the broken part")), []
    for step, picture in enumerate(pictures):
        messages += loop(1, [IMAGE] if picture else "ok")[1:]
        messages[-2]["tool_calls"][0]["id"] = messages[-1]["tool_call_id"] = str(step)
        try:
            before.append(choose(of_chat(messages, tools=LOOKUP), tiers).tier)
        except Refusal:
            assert sum(pictures[: step + 1]) > 8
            break
    ranks = [("text", "flash", "flagship").index(tier) for tier in before]
    assert ranks == sorted(ranks)


def test_a_decision_takes_at_most_twenty_microseconds() -> None:
    policy, state = policy_of(config(EVERY, aliases={})), State(frozenset(EVERY))

    def microseconds(found: Facts) -> float:
        began = time.perf_counter()
        decide(found, Hints(), state, policy)
        return (time.perf_counter() - began) * 1e6

    for found in REQUESTS.values():
        assert statistics.median(microseconds(found) for _ in range(500)) < 20
