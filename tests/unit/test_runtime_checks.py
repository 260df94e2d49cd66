"""What an engine is asked, and which answers pass."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from PIL import Image

from glm_operator.runtime import checks
from glm_operator.runtime.checks import Check, judge

IMAGE = checks.image_check("glm-4.6v")
TEXT = checks.text_check("glm-4.6")
PARSER = checks.parser_check("glm-4.6v")


def answer(*calls: tuple[str, str], content: str = "") -> dict[str, Any]:
    """A chat completion with these tool calls."""
    tool_calls = [
        {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": text}}
        for index, (name, text) in enumerate(calls)
    ]
    return {"choices": [{"message": {"content": content, "tool_calls": tool_calls}}]}


@pytest.mark.parametrize("check", [IMAGE, TEXT, PARSER], ids=lambda check: check.name)
def test_a_check_switches_thinking_off_and_leaves_room_for_the_call(check: Check) -> None:
    assert check.body["chat_template_kwargs"] == {"enable_thinking": False}
    assert check.body["max_tokens"] >= 256
    (tool,) = check.body["tools"]
    assert tool["function"]["strict"] is True
    (argument,) = tool["function"]["parameters"]["properties"].values()
    assert argument["enum"]


def test_the_image_is_a_real_one() -> None:
    image = Image.open(io.BytesIO(checks.png()))
    assert image.size == (checks.IMAGE_SIDE, checks.IMAGE_SIDE)
    assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_the_image_check_forces_one_call_with_the_image_inline() -> None:
    picture, _ = IMAGE.body["messages"][0]["content"]
    data = picture["image_url"]["url"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data) == checks.png()
    assert IMAGE.body["tool_choice"] == "required"
    assert IMAGE.body["parallel_tool_calls"] is False


def test_the_text_check_forces_one_call_without_an_image() -> None:
    (part,) = TEXT.body["messages"][0]["content"]
    assert part["type"] == "text"
    assert TEXT.body["tool_choice"] == "required"
    assert TEXT.body["parallel_tool_calls"] is False


@pytest.mark.parametrize(("sees", "first"), [(True, "image"), (False, "text")])
def test_only_a_model_that_sees_is_shown_an_image(sees: bool, first: str) -> None:
    asked = checks.checks("glm-4.6", sees)
    assert [check.name for check in asked] == [first, "parser"]


def test_the_parser_check_holds_the_output_to_the_native_call() -> None:
    (literal,) = PARSER.body["structured_outputs"]["choice"]
    assert literal == (
        "<tool_call>restart\n<arg_key>server</arg_key>\n<arg_value>a</arg_value>\n</tool_call>"
    )
    assert PARSER.body["tool_choice"] == "auto"


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (IMAGE, {"colour": "red"}),
        (IMAGE, {"colour": "\r blue\n"}),
        (PARSER, {"server": "a"}),
    ],
    ids=["enum", "white space around the value", "parser"],
)
def test_the_call_that_was_asked_for_passes(check: Check, arguments: dict[str, str]) -> None:
    verdict = judge(check, 200, answer((check.tool, json.dumps(arguments))))
    assert verdict.ok, verdict.message


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (answer(content="<tool_call>restart</tool_call>"), "<tool_call>restart"),
        (answer(("restart", "{}")), "restart({})"),
        (answer(("restart", '{"server": "b"}')), '"b"'),
        (answer(("stop", '{"server": "a"}')), "stop("),
        (answer(("restart", "not json")), "not json"),
        (answer(("restart", '["a"]')), '["a"]'),
        (answer(("restart", '{"server": "a"}'), ("restart", '{"server": "a"}')), "restart("),
        ({"choices": []}, "no tool call"),
        ({"choices": [{"message": None}]}, "no tool call"),
        ("<html>", "no tool call"),
    ],
    ids=[
        "text",
        "no arguments",
        "wrong value",
        "wrong tool",
        "broken json",
        "a list",
        "two calls",
        "no choice",
        "no message",
        "a page",
    ],
)
def test_anything_else_fails_and_says_what_was_expected_and_what_came(given: Any, got: str) -> None:
    verdict = judge(PARSER, 200, given)
    assert (verdict.ok, verdict.reason) == (False, PARSER.failed_reason)
    assert "expected restart(server=a)" in verdict.message
    assert got in verdict.message


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"error": {"message": "no such model"}}, "no such model"),
        ({"message": "bad"}, "bad"),
        ("upstream gone", "upstream gone"),
    ],
)
def test_a_refusal_shows_the_engines_own_words(body: Any, shown: str) -> None:
    verdict = judge(IMAGE, 400, body)
    assert not verdict.ok
    assert "HTTP status 400" in verdict.message
    assert shown in verdict.message


def test_a_long_answer_is_cut_so_that_it_fits_into_a_condition() -> None:
    assert len(judge(PARSER, 200, answer(content="x" * 10_000)).message) < 600


def test_the_literal_call_is_preferred_to_any_other_spelling() -> None:
    check = checks.parser_check("glm-4.6v")
    asked = checks.steered(check, {"tokens": [7, 10, 8]}, {"tokens": [10]})
    assert asked.body["logit_bias"] == {"7": 100, "10": 50, "8": 100}
    assert asked.literal == check.body["structured_outputs"]["choice"][0]


@pytest.mark.parametrize("answer", ["Not Found", {"error": {"message": "no such path"}}])
def test_an_engine_that_does_not_tell_its_tokens_is_asked_without_preference(
    answer: object,
) -> None:
    check = checks.parser_check("glm-4.6v")
    assert checks.steered(check, answer, answer) == check
