"""Facts of a request, and the bodies that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_fakes import PNG_640x480, chat
from glm_serving.gateway import facts
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import estimate

USER = {"role": "user", "content": "go"}
CALL = {
    "role": "assistant",
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
TWO_CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "function": {"name": "f"}}, {"id": "2", "function": {"name": "f"}}],
}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "ok"}
RESULT_TWO = {"role": "tool", "tool_call_id": "2", "content": "ok"}
DONE = {"role": "assistant", "content": "done"}


def of(messages: list[dict[str, Any]], **fields: Any) -> facts.Facts:
    return facts.of_chat(chat(messages=messages, **fields))


def test_a_plain_question() -> None:
    found = facts.of_chat(chat("12345678", stream=True, max_tokens=9))
    assert (found.model, found.stream, found.max_tokens) == ("glm", True, 9)
    # Three pieces of digits and six tokens of the template.
    assert (found.images, found.tools, found.text_chars, found.prompt_tokens) == (0, 0, 8, 9)
    assert not found.in_tool_loop


def test_images_are_counted_in_every_kind_of_message() -> None:
    part = {"type": "image_url", "image_url": {"url": PNG_640x480}}
    found = of(
        [
            {"role": "user", "content": [part, {"type": "text", "text": "abcd"}]},
            CALL,
            {"role": "tool", "tool_call_id": "1", "content": [part, part]},
        ]
    )
    assert (found.images, found.result_images, found.opening.images) == (3, 2, 1)
    assert (found.image_tokens, found.image_pixels) == (3 * 391, 3 * 640 * 480)
    assert len(found.media) == 1
    overhead = estimate.PROMPT_TOKENS + sum(estimate.TURN_TOKENS[r] for r in ("user", "tool"))
    overhead += estimate.TURN_TOKENS["assistant"] + estimate.CALL_TOKENS + 3 * 2
    assert found.prompt_tokens == 3 * 391 + found.text_tokens + overhead


def test_a_part_without_a_type_counts_by_its_fields() -> None:
    found = of([{"role": "user", "content": [{"image_url": PNG_640x480}, "text"]}])
    assert (found.images, found.text_chars) == (1, 4)


def test_max_completion_tokens_wins() -> None:
    assert facts.of_chat(chat(max_tokens=5, max_completion_tokens=7)).max_tokens == 7


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (16, 16),
        (16.0, 16),
        ("16", 16),
        (-1, 0),
        (None, 0),
        # What follows the engine refuses, in its own words.
        ("many", 0),
        ("", 0),
        (2**70, 2**70),
    ],
)
def test_a_limit_is_read_as_engines_read_it(value: object, expected: int) -> None:
    assert facts.of_chat(chat(max_tokens=value)).max_tokens == expected
    body = json.dumps({"model": "glm", "prompt": "a", "max_tokens": value}).encode()
    assert facts.of_completion(body).max_tokens == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), (None, False), ("true", True), ("No", False), (1, True)],
)
def test_stream_is_read_as_engines_read_it(value: object, expected: bool) -> None:
    assert facts.of_chat(chat(stream=value)).stream == expected


@given(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    )
)
def test_no_plain_value_of_an_estimate_is_refused(value: object) -> None:
    found = facts.of_chat(chat(max_tokens=value, max_completion_tokens=value, stream=value))
    assert found.max_tokens >= 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("required", "required"),
        (None, ""),
        ({"type": "function", "function": {"name": "f"}}, "named"),
    ],
)
def test_tool_choice(value: object, expected: str) -> None:
    assert facts.of_chat(chat(tool_choice=value)).tool_choice == expected


@pytest.mark.parametrize(
    ("messages", "start"),
    [
        ([USER], None),
        ([USER, CALL, RESULT], 1),
        ([USER, CALL, RESULT, CALL, RESULT], 1),
        ([USER, CALL, RESULT, DONE], None),
        ([USER, CALL, RESULT, DONE, USER, CALL, RESULT], 5),
        ([USER, TWO_CALLS, RESULT], 1),
        ([USER, TWO_CALLS, RESULT, DONE], 1),
        ([USER, TWO_CALLS, RESULT, RESULT_TWO, DONE], None),
        ([USER, CALL, RESULT, USER], 1),
        ([USER, CALL], 1),
    ],
)
def test_where_the_open_loop_begins(messages: list[dict[str, Any]], start: int | None) -> None:
    found = of(messages)
    assert found.in_tool_loop == (start is not None)
    assert found.loop_steps == sum("tool_calls" in m for m in messages[start or len(messages) :])


def test_the_opening_text_is_the_last_user_message_before_the_loop() -> None:
    later = {"role": "user", "content": "and now something else"}
    assert of([USER, CALL, RESULT, later]).opening.text == "go"


def test_a_screen_tool_is_known_by_its_name() -> None:
    def tools(name: str) -> list[dict[str, Any]]:
        return [{"type": "function", "function": {"name": name}}]

    for name in ("click", "browser_navigate", "takeScreenshot", "mouse-move"):
        assert facts.of_chat(chat(tools=tools(name))).screen_tools, name
    for name in ("get_weather", "clickhouse_query", "typesetter"):
        assert not facts.of_chat(chat(tools=tools(name))).screen_tools, name


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        (b"", "InvalidRequest", "cannot be read"),
        (b"[]", "InvalidRequest", "Expected `object`"),
        (b'{"model":"glm"}', "InvalidRequest", "missing required field `messages`"),
        (b'{"messages":[]}', "InvalidRequest", "missing required field `model`"),
        (b'{"model":"glm","messages":[{}]}', "InvalidRequest", "role"),
        (b'{"model":"glm","messages":[{"role":"user","content":5}]}', "InvalidRequest", "content"),
        (b'{"model":"glm","messages":[],"x":NaN}', "InvalidRequest", "malformed"),
        (b'\xef\xbb\xbf{"model":"glm","messages":[]}', "InvalidRequest", "malformed"),
        (b'{"model":"glm","messages":[],"x":"\xff"}', "InvalidRequest", "UTF-8"),
        (
            b'{"model":"glm","messages":[{"role":"user","content":"\xff"}]}',
            "InvalidRequest",
            "utf-8",
        ),
        (b'{"model":"glm","messages":[],"x":' + b"[" * 9000, "InvalidRequest", "deep"),
        (b'{"model":"glm","model":"x","messages":[]}', "InvalidRequest", "model is given twice"),
        (
            b'{"model":"glm","messages":[],"messages":[]}',
            "InvalidRequest",
            "messages is given twice",
        ),
        (
            b'{"model":"glm","messages":[],"mod\\u0065l":"x"}',
            "InvalidRequest",
            "model is given twice",
        ),
    ],
)
def test_a_malformed_body_is_refused(body: bytes, reason: str, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        facts.of_chat(body)
    assert caught.value.reason.name == reason
    assert words.lower() in str(caught.value).lower()


def test_a_repeated_key_behind_a_large_image_is_refused() -> None:
    url = '"data:image/png;base64,' + "A" * 20000 + '"'
    body = (
        '{"model":"glm","messages":[{"role":"user","content":[{"image_url":' + url + "}]}],"
        '"model":"other"}'
    ).encode()
    with pytest.raises(Refusal, match="model is given twice"):
        facts.of_chat(body)


def test_the_same_key_further_down_is_no_repetition() -> None:
    tool = {"function": {"name": "f", "parameters": {"properties": {"model": {}, "messages": {}}}}}
    assert facts.of_chat(chat('say "model"', tools=[tool])).tools == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/a.png",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "/etc/passwd",
        " data:image/png;base64,AAAA",
        "DATA:image/png;base64,AAAA",
        "",
    ],
)
@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_media_by_url_is_refused_with_its_place(url: str, kind: str) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": kind, kind: {"url": url}}]
    with pytest.raises(Refusal) as caught:
        of([USER, {"role": "user", "content": parts}])
    assert caught.value.reason.name == "MediaURLNotAllowed"
    assert caught.value.param == f"messages[1].content[1].{kind}"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "audio"),
        ({"audio_url": {"url": "data:audio/wav;base64,AAAA"}}, "audio"),
        ({"type": "image_embeds", "image_embeds": "AAAA"}, "an embedding"),
        ({"type": "file", "file": {"file_id": "1"}}, "a file"),
    ],
)
def test_other_media_are_refused(part: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        of([{"role": "user", "content": [part]}])
    assert caught.value.reason.name == "UnsupportedModality"


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("two words", 2), (["one", "two"], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3), (None, 0)],
)
def test_a_completion_counts_its_prompt(prompt: object, tokens: int) -> None:
    body = json.dumps({"model": "glm", "prompt": prompt, "max_tokens": 4}).encode()
    found = facts.of_completion(body)
    assert (found.prompt_tokens, found.max_tokens) == (tokens, 4)


@given(st.text(), st.integers(0, 2**40), st.booleans())
def test_the_lower_bound_is_never_above_the_estimate(text: str, limit: int, stream: bool) -> None:
    found = facts.of_chat(chat(text, max_tokens=limit, stream=stream))
    assert found.min_prompt_tokens <= found.prompt_tokens
    assert found.text_chars == len(text)


def status_of(body: bytes) -> int:
    try:
        facts.of_chat(body)
    except Refusal as refusal:
        return refusal.reason.status
    return 200


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for body in (data, b'{"model":"glm","messages":[],"x":' + data + b"}"):
        assert status_of(body) in {200, 400}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (b'{"role":"user"}', "more than 200000 objects"),
        (b'{"role":"user","content":[' + b'"",' * 2_100_000 + b'""]}', "more than 2000000 values"),
    ],
)
def test_a_body_of_too_many_values_is_refused_before_it_is_decoded(item: bytes, words: str) -> None:
    many = b",".join([item] * (1 if len(item) > 1000 else 300_000))
    with pytest.raises(Refusal, match=words):
        facts.of_chat(b'{"model":"glm","messages":[' + many + b"]}")


def test_a_large_body_of_media_is_no_body_of_many_values() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 6_000_000}}
    assert of([{"role": "user", "content": [part]}]).images == 1


def test_a_call_again_in_a_later_turn_is_a_repetition_and_a_parallel_one_is_not() -> None:
    assert of([USER, TWO_CALLS, RESULT, RESULT_TWO]).repeated_calls == 0
    assert of([USER, CALL, RESULT, CALL, RESULT, CALL]).repeated_calls == 2
    assert of([USER, CALL, RESULT, DONE, USER, CALL]).repeated_calls == 0


def test_arguments_are_the_same_however_they_are_spelled() -> None:
    def call(arguments: object) -> dict[str, Any]:
        function = {"name": "f", "arguments": arguments}
        return {"role": "assistant", "tool_calls": [{"id": "1", "function": function}]}

    spellings = ['{"a":1,"b":[2]}', '{ "b": [2], "a": 1 }', {"b": [2], "a": 1}]
    assert of([USER, *map(call, spellings)]).repeated_calls == 2
    assert of([USER, call("{broken"), call("{broken")]).repeated_calls == 1
    assert of([USER, call("[" * 5000), call(None), call("{}")]).repeated_calls == 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, True),
        ({"chat_template_kwargs": "odd"}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "low"}, True),
    ],
)
def test_the_switch_for_thinking(fields: dict[str, Any], expected: bool | None) -> None:
    assert facts.of_chat(chat(**fields)).thinking is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ""), ({"type": "text"}, ""), ({"type": "json_object"}, "json_object"), ("odd", "")],
)
def test_the_format_of_the_answer(value: object, expected: str) -> None:
    assert facts.of_chat(chat(response_format=value)).response_format == expected


def test_every_answer_of_a_request_counts() -> None:
    assert facts.of_chat(chat(n=3)).choices == 3
    body = json.dumps({"model": "glm", "prompt": "a", "n": 2, "best_of": 4}).encode()
    assert facts.of_completion(body).choices == 4
    assert facts.of_chat(chat(n="none")).choices == 1
