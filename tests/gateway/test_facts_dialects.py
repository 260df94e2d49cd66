"""The same conversation in three dialects has the same facts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import DATA, IMAGES, TOOLS, Said, Told, as_chat, as_messages, as_responses, body
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts, of_chat, of_messages, of_responses


def in_every_dialect(told: Told) -> list[Facts]:
    return [
        of_chat(body(as_chat(told))),
        of_messages(body(as_messages(told))),
        of_responses(body(as_responses(told))),
    ]


CALL = ("1", "click", {"y": 2, "x": 1})
TWICE = (CALL, ("2", "click", {"x": 3, "y": 2}))
CONVERSATIONS = {
    "question": Told((Said("user", "What is this?", ("large",)),)),
    "system": Told((Said("user", "Hello"),), system="You help. 你好", fields={"stream": True}),
    "history": Told(
        (Said("user", "a", ("small",)), Said("assistant", "b"), Said("user", "c", ("large",)))
    ),
    "loop": Told(
        (
            Said("user", "Press the button", ("large",)),
            Said("assistant", "I click.", calls=(CALL,)),
            Said("tool", "done", ("large", "small"), answers="1"),
            Said("assistant", calls=(("3", *CALL[1:]),)),
            Said("tool", "done", answers="3"),
        ),
        tools=TOOLS,
        choice="required",
        fields={"max_tokens": 64},
    ),
    "parallel": Told(
        (
            Said("user", "Both"),
            Said("assistant", calls=TWICE),
            Said("tool", "one", answers="1"),
            Said("tool", "two", ("small",), answers="2"),
        ),
        tools=TOOLS,
        choice="named",
        schema=True,
        thinking=False,
    ),
    "over": Told(
        (
            Said("user", "Once"),
            Said("assistant", calls=(CALL,)),
            Said("tool", "", answers="1"),
            Said("assistant", "Done."),
            Said("user", "Thanks"),
        ),
        thinking=True,
        choice="none",
        user="somebody",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_has_the_same_facts_in_every_dialect(name: str) -> None:
    chat, messages, responses = in_every_dialect(CONVERSATIONS[name])
    assert messages == chat
    assert responses == chat


def test_the_facts_of_a_loop_are_those_that_it_has() -> None:
    found = in_every_dialect(CONVERSATIONS["loop"])[0]
    assert (found.images, found.result_images, found.opening.images) == (3, 2, 1)
    assert (found.in_tool_loop, found.loop_steps, found.repeated_calls) == (True, 2, 1)
    assert (found.tool_choice, found.tools, found.screen_tools) == ("required", 1, True)
    assert found.schema_chars == len("click") + len("Click a point") + len(json.dumps(TOOLS[0][2]))
    assert (found.max_tokens, len(found.media)) == (64, 2)
    assert (found.image_pixels, found.largest_image_pixels) == (2 * 640 * 480 + 200, 640 * 480)


def test_other_facts_of_a_request() -> None:
    found = in_every_dialect(CONVERSATIONS["parallel"])[1]
    assert (found.response_format, found.thinking) == ("json_schema", False)
    assert (found.tool_choice, found.repeated_calls) == ("named", 0)
    assert not in_every_dialect(CONVERSATIONS["over"])[2].in_tool_loop


words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
images = st.lists(st.sampled_from(sorted(IMAGES)), max_size=2).map(tuple)
given_arguments = st.dictionaries(words, st.integers(-9, 9) | words | st.none(), max_size=3)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Said, ...]:
    """Messages as agents send them: each call is answered at once, or not at all."""
    said: list[Said] = [Said("user", draw(words), draw(images))]
    for number in range(draw(st.integers(0, 4))):
        calls = tuple(
            (f"{number}-{n}", draw(st.sampled_from(["click", "look"])), draw(given_arguments))
            for n in range(draw(st.integers(0, 2)))
        )
        said.append(Said("assistant", draw(words), calls=calls))
        said += [Said("tool", draw(words), draw(images), answers=call[0]) for call in calls]
        if draw(st.booleans()) or not calls:
            said.append(Said("user", draw(words), draw(images)))
    return tuple(said)


@given(turns(), st.text(max_size=20), st.sampled_from(["", "auto", "required", "none", "named"]))
def test_any_conversation_has_the_same_facts_in_every_dialect(
    said: tuple[Said, ...], system: str, choice: str
) -> None:
    chat, messages, responses = in_every_dialect(Told(said, system, TOOLS, choice))
    assert messages == chat
    assert responses == chat


def test_counting_tokens_reads_what_a_message_reads() -> None:
    told = as_messages(CONVERSATIONS["loop"])
    del told["max_tokens"]
    assert (
        of_messages(body(told)).prompt_tokens
        == in_every_dialect(CONVERSATIONS["loop"])[0].prompt_tokens
    )


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        (
            [{"type": "document", "source": {"type": "text", "data": "a"}}],
            ".content[0]",
            "UnsupportedModality",
        ),
        (
            [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
            ".content[0]",
            "UnsupportedModality",
        ),
        (
            [{"type": "image", "source": {"type": "url", "url": "https://e.org/a"}}],
            ".content[0].source.url",
            "MediaURLNotAllowed",
        ),
        (
            [
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [{"type": "image", "source": {"type": "url", "url": "file:///a"}}],
                }
            ],
            ".content[0].content[0].source.url",
            "MediaURLNotAllowed",
        ),
        (
            [{"type": "image", "source": {"media_type": "image/png;base64,AA", "data": DATA}}],
            ".content[0].source.media_type",
            "InvalidRequest",
        ),
    ],
)
def test_a_block_that_is_not_taken_is_named(content: object, where: str, reason: str) -> None:
    with pytest.raises(Refusal) as caught:
        of_messages(body({"messages": [{"role": "user", "content": content}]}))
    assert caught.value.reason.name == reason
    assert caught.value.param == f"messages[0]{where}"
    assert str(caught.value).startswith(f"messages[0]{where}")


@pytest.mark.parametrize(
    ("item", "where", "reason"),
    [
        (
            {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]},
            ".content[0]",
            "UnsupportedModality",
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "image_url": "https://e.org/a"}]},
            ".content[0].image_url",
            "MediaURLNotAllowed",
        ),
        (
            {
                "type": "function_call_output",
                "call_id": "1",
                "output": [{"type": "input_image", "image_url": "/a"}],
            },
            ".output[0].image_url",
            "MediaURLNotAllowed",
        ),
    ],
)
def test_a_part_of_an_item_that_is_not_taken_is_named(
    item: object, where: str, reason: str
) -> None:
    with pytest.raises(Refusal) as caught:
        of_responses(body({"input": [item]}))
    assert (caught.value.reason.name, caught.value.param) == (reason, f"input[0]{where}")


def test_what_the_gateway_does_not_know_passes() -> None:
    items: list[dict[str, Any]] = [
        {"type": "web_search_call", "id": "1", "x": {}},
        {"role": "user", "content": "a"},
    ]
    assert of_responses(body({"input": items, "later": {"a": 1}})).text_chars == 1
    blocks: list[dict[str, Any]] = [
        {"type": "server_tool_use", "x": 1},
        {"type": "text", "text": "a"},
    ]
    message = {"messages": [{"role": "user", "content": blocks}], "thinking": "much", "metadata": 5}
    assert of_messages(body(message)).text_chars == 1
    assert of_messages(body(message)).thinking is None


def test_thoughts_count_only_after_the_last_message_of_the_user() -> None:
    thought = "I should look at the button first."
    said: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "reasoning": thought, "content": "b"},
    ]
    assert of_chat(body({"messages": said})).text_chars == 2 + len(thought)
    said.append({"role": "user", "content": "c"})
    assert of_chat(body({"messages": said})).text_chars == 3
    blocks = [{"type": "thinking", "thinking": thought, "signature": ""}]
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": blocks}]
    assert of_messages(body({"messages": messages})).text_chars == 1 + len(thought)
    items = [
        {"role": "user", "content": "a"},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": thought}]},
    ]
    assert of_responses(body({"input": items})).text_chars == 1 + len(thought)
