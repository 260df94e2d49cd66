"""Bytes through the gateway: unchanged, as they arrive, and visibly broken when they are."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from gateway_fakes import (
    ANSWER,
    Call,
    answer,
    chat,
    engines,
    events,
    eventually,
    request_bytes,
    run,
    running,
    shorter,
)


def test_the_body_reaches_the_engine_unchanged() -> None:
    body = (
        b'{ "model" : "glm",  "unknown": {"x": [1.50, 1e3, null]}, "messages":[{"role":"user",'
        b'"content":"\\u00e9 \xc3\xa9","name":"n"}],'
        b'"chat_template_kwargs":{"enable_thinking":false}}'
    )

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(body)
            assert got.status == 200
            assert json.loads(got.body) == ANSWER
            assert engine.calls[0].request.body == body
            assert engine.calls[0].request.path == "/v1/chat/completions"

    run(scenario())


def test_a_large_body_reaches_the_engine_unchanged() -> None:
    image = "data:image/png;base64," + "A" * 3_000_000
    parts = [{"type": "image_url", "image_url": {"url": image}}]
    body = chat(messages=[{"role": "user", "content": parts}])

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            assert (await gateway.ask(body)).status == 200
            assert engine.calls[0].request.body == body

    run(scenario())


def test_stream_chunks_are_passed_on_as_they_arrive() -> None:
    go_on = asyncio.Event()
    parts = events(2)

    async def script(call: Call) -> None:
        await call.stream_head()
        await call.chunk(parts[0])
        await go_on.wait()
        for part in parts[1:]:
            await call.chunk(part)
        await call.end()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(stream=True))
            head = await client.head()
            assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert await client.chunk() == parts[0]
            go_on.set()
            rest = b""
            while (chunk := await client.chunk()) is not None:
                rest += chunk
            assert rest == b"".join(parts[1:])

    run(scenario())


@pytest.mark.parametrize("phase", ["waiting", "relaying"])
def test_an_abort_of_the_client_reaches_the_engine(phase: str) -> None:
    async def script(call: Call) -> None:
        if phase == "relaying":
            await call.stream_head()
            await call.chunk(events(1)[0])
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(stream=True))
            await eventually(lambda: engine.calls, "the request is at the engine")
            if phase == "relaying":
                await client.head()
            client.abort()
            await asyncio.wait_for(engine.calls[0].gone.wait(), 5)
            assert gateway.metric("glm_gateway_aborts_total", tier="flash", phase=phase) == 1

    run(scenario())


def test_only_allowed_headers_reach_the_engine_and_come_back() -> None:
    async def script(call: Call) -> None:
        await call.json(200, ANSWER, "server: uvicorn\r\nx-glm-tier: forged\r\nset-cookie: a=b\r\n")

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(
                chat(),
                authorization="Bearer key",
                cookie="a=b",
                x_forwarded_for="1.2.3.4",
                x_glm_internal="1",
                x_glm_session="s1",
                traceparent="00-a-b-01",
                accept_encoding="gzip",
                tracestate="a=b",
                connection="keep-alive, tracestate",
            )
            assert set(engine.calls[0].request.headers) == {
                "host",
                "x-request-id",
                "content-length",
                "content-type",
                "traceparent",
            }
            assert engine.calls[0].request.headers["host"] == engine.url.removeprefix("http://")
            assert set(got.headers) == {
                "x-request-id",
                "x-glm-tier",
                "x-glm-decision",
                "x-glm-replica",
                "content-type",
                "content-length",
            }
            assert got.headers["x-glm-tier"] == "flash"
            assert gateway.log()[-1]["session"] == "s1"

    run(scenario())


@pytest.mark.parametrize(
    ("given", "kept"),
    [("req-1.A:b_c", True), ("a b", False), ("x" * 129, False), ("é", False), ('"', False)],
)
def test_a_request_id_is_echoed_only_when_it_is_harmless(given: str, kept: bool) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(), x_request_id=given)
            assert (got.headers["x-request-id"] == given) == kept
            assert gateway.log()[-1]["id"] == got.headers["x-request-id"]

    run(scenario())


def test_the_query_string_takes_no_part() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(), "/v1/chat/completions?beta=true")
            assert got.status == 200
            assert engine.calls[0].request.path == "/v1/chat/completions"

    run(scenario())


def test_completions_are_served() -> None:
    body = b'{"model": "glm-4.6v", "prompt": "once", "max_tokens": 4}'

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flagship=[engine.url]) as gateway:
            got = await gateway.ask(body, "/v1/completions")
            assert (got.status, got.headers["x-glm-tier"]) == (200, "flagship")
            assert engine.calls[0].request.path == "/v1/completions"

    run(scenario())


def test_one_connection_serves_request_after_request() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            for _ in range(3):
                await client.request(chat())
                assert (await client.answer()).status == 200
                await client.request(chat(stream=True))
                assert (await client.answer()).complete
            assert engine.connections == 1

    run(scenario())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            ids = [f"r{n}" for n in range(20)]
            await client.send(b"".join(request_bytes(chat(), x_request_id=i) for i in ids))
            assert [(await client.answer()).headers["x-request-id"] for _ in ids] == ids

    run(scenario())


def test_http_1_0_gets_a_stream_without_chunks_and_a_closed_connection() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.send(request_bytes(chat(stream=True)).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            got = await client.answer()
            assert got.body == b"".join(events(3))
            assert got.headers["connection"] == "close"
            assert "transfer-encoding" not in got.headers

    run(scenario())


def test_connection_close_is_obeyed() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(), connection="close")
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.ended()

    run(scenario())


def test_a_client_that_waits_for_leave_gets_it() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            head, _, body = request_bytes(chat(), expect="100-continue").partition(b"\r\n\r\n")
            await client.send(head + b"\r\n\r\n")
            assert (await client.head()).status == 100
            await client.send(body)
            assert (await client.answer()).status == 200

    run(scenario())


def test_an_offer_to_upgrade_is_ignored() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(), connection="Upgrade, HTTP2-Settings", upgrade="h2c")
            assert got.status == 200

    run(scenario())


def test_an_offer_to_upgrade_with_a_chunked_body_is_ignored() -> None:
    body = chat()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n"
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEA\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            for _ in range(2):
                await client.send(head)
                await client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
                assert (await client.answer()).status == 200
            assert [call.request.body for call in engine.calls] == [body, body]

    run(scenario())


def test_a_slow_reader_pauses_the_engine_and_loses_nothing() -> None:
    piece, done = b"data: {" + b"x" * 65000 + b"}\n\n", b"data: [DONE]\n\n"
    # More than twice what the kernel's buffers of both hops take in.
    total = 400
    sent = 0

    async def script(call: Call) -> None:
        nonlocal sent
        await call.stream_head()
        for _ in range(total):
            await call.chunk(piece)
            sent += 1
        await call.chunk(done)
        await call.end()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.request(chat(stream=True))
            await eventually(lambda: sent, "the stream began")
            (exchange,) = gateway.gateway._exchanges
            await eventually(
                lambda: exchange._attempt is not None and exchange._attempt._connection._paused,
                "the engine is paused",
            )
            with pytest.raises(AssertionError, match="nobody reads"):
                await eventually(lambda: sent > total / 2, "it took in what nobody reads", 0.3)
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            got = await client.answer()
            assert got.complete
            assert len(got.body) == total * len(piece) + len(done)

    run(scenario())


def test_a_client_that_never_reads_is_cut_off() -> None:
    async def script(call: Call) -> None:
        await call.stream_head()
        while not call.gone.is_set():
            await call.chunk(b"x" * 65000)

    async def scenario() -> None:
        timings = shorter(write_stall=0.1)
        async with engines(script) as [engine], running(timings=timings, flash=[engine.url]) as gw:
            client = await gw.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.request(chat(stream=True))
            await eventually(lambda: engine.calls, "the request is at the engine")
            await asyncio.wait_for(engine.calls[0].gone.wait(), 5)

    run(scenario())


@pytest.mark.parametrize(
    ("usage", "prompt", "completion", "source"),
    [(True, 5, 4, "reported"), (False, 9, 5, "estimated")],
)
def test_tokens_of_a_stream(usage: bool, prompt: int, completion: int, source: str) -> None:
    async def script(call: Call) -> None:
        await call.events(4, usage)

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat("12345678", stream=True))
            line = gateway.log()[-1]
            assert (line["promptTokens"], line["completionTokens"]) == (prompt, completion)
            for kind, count in (("prompt", prompt), ("completion", completion)):
                labels = {"tier": "flash", "kind": kind, "source": source, "team": "none"}
                found = gateway.metric("glm_gateway_tokens_total", **labels)
                assert found == count

    run(scenario())


def test_tokens_of_an_unary_answer_are_the_reported_ones() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat())
            line = gateway.log()[-1]
            assert (line["promptTokens"], line["completionTokens"]) == (7, 3)
            assert line["tokenSource"] == "reported"

    run(scenario())


def test_the_access_log_says_what_happened_and_not_what_was_asked() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat("a secret prompt", stream=True))
            line = gateway.log()[-1]
            assert "secret" not in json.dumps(line)
            assert line["path"] == "/v1/chat/completions"
            assert (line["status"], line["tier"], line["reason"]) == (200, "flash", "TextOnly")
            assert (line["replica"], line["attempts"], line["stream"]) == ("flash-0", 1, True)
            assert line["firstTokenMilliseconds"] <= line["totalMilliseconds"]

    run(scenario())


def test_a_request_that_took_no_time_is_logged_with_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            monkeypatch.setattr(time, "monotonic", lambda: 100.0)
            await gateway.ask(chat())
            assert gateway.log()[-1]["totalMilliseconds"] == 0
            monkeypatch.undo()

    run(scenario())
