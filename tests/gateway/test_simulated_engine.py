"""Through the gateway and direct to a simulated engine: the same bytes, whatever is asked."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from gateway_fakes import Answer, Client, PNG_640x480, chat, eventually, run, running
from simulators import QUICK, Engine, simulated

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "click",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"button": {"type": "string", "enum": ["save", "cancel"]}},
            "required": ["button"],
            "additionalProperties": False,
        },
    },
}
QUIET = {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 300}
IMAGE = {"type": "image_url", "image_url": {"url": PNG_640x480}}
LOOK = {"role": "user", "content": [IMAGE, {"type": "text", "text": "Save the document."}]}
CALL = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "call-1",
            "type": "function",
            "function": {"name": "click", "arguments": '{"button": "save"}'},
        }
    ],
}
RESULT = {"role": "tool", "tool_call_id": "call-1", "content": [IMAGE]}
TOOLS = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}
CASES = {
    "text": {},
    "stream": {"stream": True},
    "stream with usage": {"stream": True, "stream_options": {"include_usage": True}},
    "tool": {"messages": [LOOK], **TOOLS},
    "streamed tool": {"messages": [LOOK], **TOOLS, "stream": True},
    "tool result": {"messages": [LOOK, CALL, RESULT], "tools": [TOOL]},
    "engine error": {"tool_choice": "required"},
}


async def direct(engine: Engine, body: bytes, request_id: str) -> Answer:
    client = await Client.open(int(engine.url.rsplit(":", 1)[1]))
    await client.request(body, x_request_id=request_id)
    answer = await client.answer()
    client.writer.close()
    return answer


def steady(answer: Answer) -> tuple[int, bytes, bool]:
    """An answer without what differs from one run to the next."""
    body = re.sub(rb'"created":\s*\d+', b'"created":0', answer.body)
    return (
        answer.status,
        re.sub(rb"(chatcmpl-tool|call)[-_][0-9a-f]+", b"call", body),
        answer.complete,
    )


@pytest.mark.parametrize("case", CASES)
def test_direct_and_through_the_gateway_are_the_same(case: str) -> None:
    body = chat(model="glm-4.6v", **{**QUIET, **CASES[case]})

    async def scenario(engine: Engine) -> None:
        async with running(flagship=[engine.url]) as gateway:
            straight = await direct(engine, body, "same-1")
            routed = await gateway.ask(body, x_request_id="same")
            assert steady(routed) == steady(straight)
            assert routed.headers["content-type"] == straight.headers["content-type"]
            assert routed.status == (400 if case == "engine error" else 200)

    with simulated() as engine:
        run(scenario(engine))


def test_the_engines_tokens_are_the_gateways_when_they_are_reported() -> None:
    async def scenario(engine: Engine) -> None:
        async with running(flagship=[engine.url]) as gateway:
            for _ in range(3):
                assert (await gateway.ask(chat(model="glm-4.6v", **QUIET))).status == 200
            generated = await asyncio.to_thread(engine.metric, "vllm:generation_tokens_total")
            labels = {"tier": "flagship", "kind": "completion", "source": "reported"}
            counted = gateway.metric("glm_gateway_tokens_total", team="none", **labels)
            assert counted == generated

    with simulated() as engine:
        run(scenario(engine))


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine(stream: bool) -> None:
    async def scenario(engine: Engine) -> None:
        def at_work() -> float:
            return engine.metric("vllm:num_requests_running")

        async with running(flagship=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(model="glm-4.6v", stream=stream, **QUIET))
            await eventually(lambda: at_work() == 1, "the engine works")
            client.abort()
            await eventually(lambda: at_work() == 0, "the engine stopped")

    with simulated(**{**QUICK, "first_token_ms": 20000}) as engine:
        run(scenario(engine))
