"""Streams that are held for long: opened where a replica comes in time, and alive till then."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

from gateway_fakes import (
    Call,
    Client,
    Running,
    answer,
    chat,
    engines,
    events,
    eventually,
    run,
    running,
    shorter,
)
from gateway_holding import held, learnt, limited
from glm_serving.gateway.answer import COMMENT

SOON = shorter(silence=0.05, comment=0.02)
USER: list[Any] = [{"role": "user", "content": "hello"}]


@asynccontextmanager
async def opened(seconds: float = 60) -> AsyncIterator[tuple[Running, Client]]:
    """A client whose stream was opened while it is held."""
    async with running(limited(timeout=seconds), SOON) as gateway:
        learnt(gateway, seconds / 2)
        client = await gateway.client()
        await client.request(chat(stream=True))
        got = await client.head()
        assert got.status == 200
        assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (got.headers["x-glm-tier"], "x-glm-replica" in got.headers) == ("flash", False)
        assert gateway.gateway.held == 1
        yield gateway, client


async def rest(client: Client) -> tuple[bytes, bool]:
    """What else comes, without comments, and whether it ends as a complete answer does."""
    body = b""
    try:
        while (chunk := await client.chunk()) is not None:
            body += chunk
    except asyncio.IncompleteReadError:
        return body.replace(COMMENT, b""), False
    return body.replace(COMMENT, b""), True


def test_an_opened_stream_lives_and_then_gets_its_answer() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], opened() as (gateway, client):
            for _ in range(3):
                assert await client.chunk() == COMMENT
            gateway.endpoints(flash=[engine.url])
            assert await rest(client) == (b"".join(events(3)), True)
            line = gateway.log()[-1]
            assert (line["status"], line["replica"]) == (200, "flash-0")
            assert line["completionTokens"] == 3

    run(scenario())


def test_it_lives_as_well_while_the_replica_computes_its_first_token() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], opened() as (gateway, client):
            gateway.endpoints(flash=[engine.url])
            await eventually(lambda: engine.calls, "the engine has it")
            for _ in range(5):
                assert await client.chunk() == COMMENT
            go_on.set()
            assert await rest(client) == (b"".join(events(3)), True)

    run(scenario())


@pytest.mark.parametrize(("stream", "known"), [(True, False), (False, True)])
def test_nothing_is_sent_without_a_stream_or_an_estimate(stream: bool, known: bool) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(limited(), SOON) as gateway:
            if known:
                learnt(gateway, 30)
            client = await gateway.client()
            await client.request(chat(stream=stream))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.2)
            gateway.endpoints(flash=[engine.url])
            got = await client.answer()
            assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-0")

    run(scenario())


def test_what_ends_an_opened_stream_is_an_event_and_no_clean_end() -> None:
    async def scenario() -> None:
        async with opened(seconds=2) as (gateway, client):
            body, complete = await rest(client)
            assert not complete
            error = json.loads(body.removeprefix(b"data: "))["error"]
            assert error["code"] == "HoldTimeout"
            line = gateway.log()[-1]
            assert (line["status"], line["error"], line["phase"]) == (503, "HoldTimeout", "held")

    run(scenario())


def test_the_end_of_the_process_is_told_in_an_opened_stream() -> None:
    async def scenario() -> None:
        async with opened() as (gateway, client):
            gateway.gateway.abandon()
            body, complete = await rest(client)
            assert b'"code":"ShuttingDown"' in body
            assert not complete

    run(scenario())


@pytest.mark.parametrize(
    ("status", "reason"), [(400, "EngineRefused"), (422, "EngineRefused"), (500, "UpstreamFailed")]
)
def test_what_the_engine_refuses_is_told_in_an_opened_stream(status: int, reason: str) -> None:
    async def refuse(call: Call) -> None:
        await call.json(status, {"error": {"message": "no such thing", "type": "X", "code": 1}})

    async def scenario() -> None:
        async with engines(refuse) as [engine], opened() as (gateway, client):
            gateway.endpoints(flash=[engine.url])
            body, complete = await rest(client)
            error = json.loads(body.removeprefix(b"data: "))["error"]
            assert (error["code"], complete) == (reason, False)
            assert error["message"] == f"the engine answered {status}: no such thing"

    run(scenario())


def test_an_answer_that_is_neither_stream_nor_object_is_told_as_it_is() -> None:
    async def strange(call: Call) -> None:
        await call.send(b"HTTP/1.1 404 X\r\ncontent-length: 9\r\n\r\nnot\xff here")

    async def scenario() -> None:
        async with engines(strange) as [engine], opened() as (gateway, client):
            gateway.endpoints(flash=[engine.url])
            body, _ = await rest(client)
            assert "the engine answered 404: not\ufffd here" in body.decode()

    run(scenario())


def test_a_replica_that_fails_before_its_first_byte_is_replaced_in_an_opened_stream() -> None:
    fail = asyncio.Event()

    async def die(call: Call) -> None:
        await fail.wait()
        call.writer.transport.abort()

    async def scenario() -> None:
        async with engines(die, answer) as [bad, good], opened() as (gateway, client):
            gateway.endpoints(flash=[bad.url])
            await eventually(lambda: bad.calls, "the first replica has it")
            gateway.endpoints(flash=[bad.url, good.url])
            fail.set()
            assert await rest(client) == (b"".join(events(3)), True)

    run(scenario())


def test_a_client_that_leaves_an_opened_stream_is_forgotten() -> None:
    async def scenario() -> None:
        async with opened() as (gateway, client):
            client.abort()
            await held(gateway, 0)
            assert gateway.metric("glm_gateway_aborts_total", tier="flash", phase="held") == 1
            assert gateway.gateway.running == 0

    run(scenario())


def test_the_openai_package_reads_an_opened_stream_and_raises_on_its_error() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(limited(timeout=2), SOON) as gateway:
            learnt(gateway, 1)
            url = f"http://127.0.0.1:{gateway.port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                asked = client.chat.completions
                stream = await asked.create(model="glm", messages=USER, stream=True)
                assert gateway.gateway.held == 1
                gateway.endpoints(flash=[engine.url])
                words = [one.choices[0].delta.content async for one in stream if one.choices]
                assert "".join(word or "" for word in words) == "w0 w1 w2 "
                gateway.endpoints(flash=[])
                learnt(gateway, 1)
                stream = await asked.create(model="glm", messages=USER, stream=True)
                with pytest.raises(openai.APIError, match="No replica became ready"):
                    _ = [one async for one in stream]

    run(scenario())


def test_the_anthropic_package_reads_an_opened_stream_and_raises_on_its_error() -> None:
    async def scenario() -> None:
        async with running(limited(timeout=2), SOON) as gateway:
            learnt(gateway, 1)
            url = f"http://127.0.0.1:{gateway.port}"
            options: Any = {"base_url": url, "api_key": "none", "max_retries": 0}
            async with anthropic.AsyncAnthropic(**options) as client:
                stream = await client.messages.create(
                    model="glm", max_tokens=5, messages=USER, stream=True
                )
                assert gateway.gateway.held == 1
                with pytest.raises(anthropic.APIError, match="No replica became ready"):
                    _ = [one async for one in stream]

    run(scenario())
