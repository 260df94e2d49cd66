"""The openai package against the gateway: answers, and its own typed exceptions."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

from dialect_answers import answer_any, break_off
from gateway_fakes import Call, Running, answer, config, engines, events, run, running, with_limits

USER: list[Any] = [{"role": "user", "content": "hello"}]
Use = Callable[[openai.AsyncOpenAI, Running], Awaitable[None]]


def with_client(use: Use, script: Any = answer, **limits: Any) -> None:
    """Use the package against a gateway with one flash engine."""

    async def scenario() -> None:
        async with (
            engines(script) as [engine],
            running(with_limits(config(), **limits), flash=[engine.url]) as gateway,
        ):
            url = f"http://127.0.0.1:{gateway.port}/v1"
            client = openai.AsyncOpenAI(base_url=url, api_key="unused", max_retries=0, timeout=10)
            async with client:
                await use(client, gateway)

    run(scenario())


def test_answers_streams_and_models() -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        whole = await client.chat.completions.create(model="glm", messages=USER)
        assert whole.choices[0].message.content == "hi"
        stream = await client.chat.completions.create(model="glm", messages=USER, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]
        assert "".join(word or "" for word in words) == "w0 w1 w2 "
        assert "glm" in [model.id async for model in client.models.list()]
        assert (await client.models.retrieve("glm-4.6v")).id == "glm-4.6v"

    with_client(use)


def test_responses_and_their_streams() -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        whole = await client.responses.create(model="glm", input="hello")
        assert whole.output_text == "one two three"
        async with client.responses.stream(model="glm", input="hello") as stream:
            types = [event.type async for event in stream]
            assert (await stream.get_final_response()).output_text == "one two three"
        assert types[-1] == "response.completed"

    with_client(use, answer_any)


@pytest.mark.parametrize("after", [1, 2, 5, 9])
def test_a_broken_stream_of_a_response_raises_api_error(after: int) -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        stream = await client.responses.create(model="glm", input="hello", stream=True)
        with pytest.raises(openai.APIError, match="lost after its first byte") as caught:
            async for _ in stream:
                pass
        assert caught.value.code == "StreamBroken"

    with_client(use, functools.partial(break_off, after=after))


@pytest.mark.parametrize(
    ("raised", "reason", "request_"),
    [
        (openai.NotFoundError, "ModelNotFound", {"model": "gpt-9"}),
        (openai.BadRequestError, "InvalidRequest", {"extra_headers": {"x-glm-tier": "x"}}),
        (openai.BadRequestError, "ContextTooLong", {"max_tokens": 10**6}),
        (
            openai.BadRequestError,
            "MediaURLNotAllowed",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "http://e/a.png"}}],
                    }
                ]
            },
        ),
        (
            openai.APIStatusError,
            "BodyTooLarge",
            {"messages": [*USER, {"role": "user", "content": "x" * 9000}]},
        ),
    ],
)
def test_bad_requests_raise_their_type(
    raised: type[openai.APIStatusError], reason: str, request_: dict[str, Any]
) -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        with pytest.raises(raised) as caught:
            await client.chat.completions.create(**{"model": "glm", "messages": USER} | request_)
        assert caught.value.code == reason
        assert caught.value.request_id == gateway.log()[-1]["id"]

    with_client(use, max_body_bytes=8000)


def test_a_full_queue_raises_rate_limit_error() -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        gateway.endpoints()
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="glm", messages=USER)
        assert caught.value.code == "HoldQueueFull"

    with_client(use, max_held_requests=0)


def test_a_hold_that_ends_raises_internal_server_error() -> None:
    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        gateway.endpoints()
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="glm", messages=USER)
        assert (caught.value.status_code, caught.value.code) == (503, "HoldTimeout")

    with_client(use, hold_timeout_seconds=0.05)


def test_a_broken_stream_raises_api_error() -> None:
    async def breaks(call: Call) -> None:
        await call.stream_head()
        await call.chunk(events(1)[0])
        call.writer.close()

    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        stream = await client.chat.completions.create(model="glm", messages=USER, stream=True)
        with pytest.raises(openai.APIError, match="lost after its first byte"):
            async for _ in stream:
                pass

    with_client(use, breaks)


def test_leaving_a_stream_early_reaches_the_engine() -> None:
    calls: list[Call] = []

    async def endless(call: Call) -> None:
        calls.append(call)
        await call.stream_head()
        await call.chunk(events(1)[0])
        await call.gone.wait()

    async def use(client: openai.AsyncOpenAI, gateway: Running) -> None:
        stream = await client.chat.completions.create(model="glm", messages=USER, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await calls[0].gone.wait()
        await gateway.at_rest()
        line = gateway.log()[-1]
        assert (line["error"], line["phase"], line["tokenSource"]) == (
            "ClientClosed",
            "relaying",
            "estimated",
        )

    with_client(use, endless)
