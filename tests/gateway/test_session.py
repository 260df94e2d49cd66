"""Which requests belong to one conversation."""

from __future__ import annotations

from typing import Any

import pytest

from conversations import body
from glm_serving.gateway.facts import Facts, of_chat, of_messages, of_responses, session
from glm_serving.gateway.http import RequestHead, session_of

SYSTEM = {"role": "system", "content": "You help."}
FIRST = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
NEXT = {"role": "user", "content": "more"}


def chat(*messages: dict[str, Any], **fields: Any) -> Facts:
    return of_chat(body({"messages": list(messages), **fields}))


def test_a_conversation_keeps_its_session_while_it_grows() -> None:
    began = chat(SYSTEM, FIRST).session
    assert chat(SYSTEM, FIRST, ANSWER, NEXT).session == began
    assert chat(SYSTEM, FIRST, ANSWER, NEXT, model="other", stream=True).session == began


@pytest.mark.parametrize(
    "messages",
    [
        (FIRST,),
        (SYSTEM, NEXT),
        ({"role": "system", "content": "You are rude."}, FIRST),
        (SYSTEM, {"role": "user", "content": "a" * 9000}),
        (SYSTEM, {"role": "user", "content": "a" * 9001}),
    ],
)
def test_another_beginning_is_another_session(messages: tuple[dict[str, Any], ...]) -> None:
    assert chat(*messages).session != chat(SYSTEM, FIRST).session


def test_what_the_body_names_wins_in_this_order() -> None:
    plain = chat(FIRST).session
    user = chat(FIRST, metadata={"user_id": "u"}).session
    cached = chat(FIRST, metadata={"user_id": "u"}, prompt_cache_key="k").session
    named = chat(FIRST, prompt_cache_key="k", session_id="s").session
    assert len({plain, user, cached, named}) == 4
    assert chat(NEXT, session_id="s").session == named
    assert chat(NEXT, prompt_cache_key="k").session == cached
    assert of_messages(body({"messages": [], "metadata": {"user_id": "u"}})).session == user
    assert of_responses(body({"input": "x", "session_id": "s"})).session == named


def test_a_name_that_is_none_is_the_engines_to_refuse() -> None:
    assert chat(FIRST, metadata=["u"]).session == chat(FIRST).session
    assert chat(FIRST, metadata={"user_id": {}}).session == chat(FIRST).session


def test_the_header_wins_and_nobody_reaches_the_session_of_another_key() -> None:
    found = chat(FIRST).session
    keys = {
        session.key("ours", "", found),
        session.key("theirs", "", found),
        session.key("ours", "s", found),
        session.key("theirs", "s", found),
    }
    assert len(keys) == 4
    assert session.key("ours", "s", found) == session.key("ours", "s", "another")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ""),
        ({b"session_id": b"c"}, "c"),
        ({b"session_id": b"c", b"x-session-id": b"b"}, "b"),
        ({b"session_id": b"c", b"x-session-id": b"b", b"x-glm-session": b"a"}, "a"),
        ({b"x-session-id": b"two words"}, ""),
    ],
)
def test_the_strongest_header_names_the_session(headers: dict[bytes, bytes], expected: str) -> None:
    assert session_of(RequestHead(headers=headers)) == expected
