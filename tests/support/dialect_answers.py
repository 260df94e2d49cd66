"""What a fake engine answers in each API, shaped as vLLM 0.32 does."""

from __future__ import annotations

import json
from typing import Any

from gateway_fakes import Call, answer

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
RESPONSES = "/v1/responses"
WORDS = ("one ", "two ", "three")
MESSAGE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "".join(WORDS)}],
    "model": "served",
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 2,
        "output_tokens": 3,
        "cache_creation_input_tokens": 1,
        "cache_read_input_tokens": 4,
    },
}
"""Of seven tokens of prompt four were in the cache and one was put there."""
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "created_at": 1,
    "model": "served",
    "object": "response",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "".join(WORDS), "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [{"type": "function", "name": "f", "parameters": {"properties": {"usage": {}}}}],
    "status": "completed",
    "usage": {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 5},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
    },
    "user": None,
}


def _named(event: dict[str, Any]) -> bytes:
    data = json.dumps(event, separators=(",", ":"))
    return f"event: {event['type']}\ndata: {data}\n\n".encode()


def message_events() -> list[bytes]:
    """A streamed message."""
    opening = MESSAGE | {
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 7, "output_tokens": 0},
    }
    delta = {"type": "content_block_delta", "index": 0}
    values = [
        {"type": "message_start", "message": opening},
        {
            "type": "content_block_start",
            "content_block": {"type": "text", "text": ""},
            "index": 0,
        },
        *({**delta, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": MESSAGE["usage"],
        },
        {"type": "message_stop"},
    ]
    return [_named(value) for value in values]


def response_events() -> list[bytes]:
    """A streamed response."""
    begun = RESPONSE | {"output": [], "status": "in_progress", "usage": None}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    item = RESPONSE["output"][0]
    values = [
        {"response": begun, "type": "response.created"},
        {"response": begun, "type": "response.in_progress"},
        {
            "item": item | {"content": [], "status": "in_progress"},
            "output_index": 0,
            "type": "response.output_item.added",
        },
        {**at, "part": part, "type": "response.content_part.added"},
        *(
            {**at, "delta": word, "logprobs": [], "type": "response.output_text.delta"}
            for word in WORDS
        ),
        {
            **at,
            "text": "".join(WORDS),
            "logprobs": [],
            "type": "response.output_text.done",
        },
        {"item": item, "output_index": 0, "type": "response.output_item.done"},
        {"response": RESPONSE, "type": "response.completed"},
    ]
    numbered = ({"sequence_number": n, **value} for n, value in enumerate(values))
    return [_named(value) for value in numbered]


EVENTS = {MESSAGES: message_events, RESPONSES: response_events}
WHOLE = {MESSAGES: MESSAGE, RESPONSES: RESPONSE, COUNT_TOKENS: {"input_tokens": 7}}


async def answer_any(call: Call) -> None:
    """Answer in the dialect of the path, streamed when asked so."""
    path = call.request.path
    if path not in WHOLE:
        await answer(call)
    elif not json.loads(call.request.body).get("stream"):
        await call.json(200, WHOLE[path])
    else:
        await call.stream_head()
        for event in EVENTS[path]():
            await call.chunk(event)
        await call.end()


async def break_off(call: Call, after: int) -> None:
    """Stream so many events and die."""
    await call.stream_head()
    for event in EVENTS[call.request.path]()[:after]:
        await call.chunk(event)
    call.writer.close()
