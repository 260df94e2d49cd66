"""Bad, hostile and over-large requests: each gets its own clear error."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from gateway_fakes import (
    Answer,
    answer,
    chat,
    config,
    engines,
    eventually,
    request_bytes,
    run,
    running,
    shorter,
)

HEAD = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n"


def head(*lines: str, body: str = "") -> bytes:
    """A request's head with these lines, and what follows it."""
    return (HEAD + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body).encode()


async def raw(data: bytes) -> Answer:
    """The answer to these bytes, from a gateway whose engine must not be reached."""
    async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
        client = await gateway.client()
        await client.send(data)
        got = await client.answer()
        assert not engine.calls
        assert gateway.log()[-1]["error"] == got.error["code"]
        assert got.headers["x-request-id"] == gateway.log()[-1]["id"]
        return got


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST /v1/embeddings HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 404, "PathNotFound"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST /v1/load_lora_adapter HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST /v1/chat/completions/ HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST //v1/chat/completions HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST /v1/../v1/chat/completions HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST /v1%2fchat/completions HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"POST http://e/v1/chat/completions HTTP/1.1\r\n\r\n", 404, "PathNotFound"),
        (b"GET /v1/models/none HTTP/1.1\r\n\r\n", 404, "ModelNotFound"),
        (b"GET /v1/chat/completions HTTP/1.1\r\n\r\n", 405, "MethodNotAllowed"),
        (b"DELETE /v1/models/glm HTTP/1.1\r\n\r\n", 405, "MethodNotAllowed"),
        (request_bytes(b"{", content_type="text/plain"), 415, "UnsupportedEncoding"),
        (request_bytes(b"{", content_encoding="gzip"), 415, "UnsupportedEncoding"),
        (request_bytes(b"{"), 400, "InvalidRequest"),
        (request_bytes(b""), 400, "InvalidRequest"),
        (request_bytes(chat(model="gpt-5")), 404, "ModelNotFound"),
        (request_bytes(chat(), x_glm_tier="text"), 400, "InvalidRequest"),
        (request_bytes(chat(max_tokens=10**6)), 400, "ContextTooLong"),
        (
            head("content-length: 2", "content-length: 2", body="{}"),
            400,
            "InvalidRequest",
        ),
        (head("content-length: 2, 2", body="{}"), 400, "InvalidRequest"),
        (head("content-length: -2", body="{}"), 400, "InvalidRequest"),
        (head("content-length: +2", body="{}"), 400, "InvalidRequest"),
        (
            head("content-length: 2", "transfer-encoding: chunked", body="0\r\n\r\n"),
            400,
            "InvalidRequest",
        ),
        (
            head("transfer-encoding: gzip, chunked", body="0\r\n\r\n"),
            400,
            "InvalidRequest",
        ),
        (head("transfer-encoding: xchunked", body="0\r\n\r\n"), 400, "InvalidRequest"),
        (head("transfer-encoding : chunked", body="0\r\n\r\n"), 400, "InvalidRequest"),
        (head("transfer-encoding: chunked", body="zz\r\n"), 400, "InvalidRequest"),
        (head("x-a: b\r\n folded", "content-length: 0"), 400, "InvalidRequest"),
        (head("x-a: \x01", "content-length: 0"), 400, "InvalidRequest"),
        (
            head("x-glm-tier: flash", "x-glm-tier: flagship"),
            400,
            "InvalidRequest",
        ),
        (b"CONNECT e:443 HTTP/1.1\r\nhost: e\r\n\r\n", 404, "PathNotFound"),
        (head("upgrade: h2c\r\n folded", "content-length: 0"), 400, "InvalidRequest"),
        (b"NONSENSE\r\n\r\n", 400, "InvalidRequest"),
        (b"POST /v1/chat/completions HTTP/1.1\nhost: g\n\r\n\r\n", 400, "InvalidRequest"),
        (head(f"x-long: {'a' * 40000}"), 431, "HeadersTooLarge"),
        (head(*["x-many: 1"] * 120), 431, "HeadersTooLarge"),
    ],
)
def test_a_bad_request_is_refused_before_any_engine_sees_it(
    data: bytes, status: int, code: str
) -> None:
    got = run(raw(data))
    assert (got.status, got.error["code"]) == (status, code)
    assert set(got.error) == {"message", "type", "param", "code"}
    assert got.error["message"]


def small(body: int = 1000, in_flight: int = 10**6) -> object:
    base = config()
    limits = msgspec.structs.replace(
        base.limits, max_body_bytes=body, max_in_flight_bytes=in_flight
    )
    return msgspec.structs.replace(base, limits=limits)


def test_a_body_over_the_limit_is_refused_by_its_length_alone() -> None:
    async def scenario() -> None:
        async with running(small()) as gateway:  # type: ignore[arg-type]
            client = await gateway.client()
            await client.send(head("content-length: 1001", "expect: 100-continue"))
            got = await client.answer()
            assert (got.status, got.error["code"]) == (413, "BodyTooLarge")
            assert "1000" in got.error["message"]

    run(scenario())


def test_the_error_is_received_although_the_body_is_still_being_sent() -> None:
    async def scenario() -> None:
        async with running(small(), timings=shorter(linger=5)) as gateway:  # type: ignore[arg-type]
            client = await gateway.client()
            client.writer.write(head("content-length: 3000000"))
            client.writer.write(b"x" * 3_000_000)
            got = await client.answer()
            assert got.status == 413
            assert await client.ended()

    run(scenario())


def test_a_chunked_body_over_the_limit_is_refused_while_it_is_read() -> None:
    async def scenario() -> None:
        async with running(small()) as gateway:  # type: ignore[arg-type]
            client = await gateway.client()
            await client.send(head("transfer-encoding: chunked"))
            for _ in range(3):
                await client.send(b"190\r\n" + b"x" * 400 + b"\r\n")
            got = await client.answer()
            assert (got.status, got.error["code"]) == (413, "BodyTooLarge")

    run(scenario())


def test_a_chunked_body_is_served() -> None:
    body = chat("chunked")

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.send(head("transfer-encoding: chunked"))
            for at in range(0, len(body), 10):
                piece = body[at : at + 10]
                await client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            await client.send(b"0\r\nx-trailer: 1\r\n\r\n")
            assert (await client.answer()).status == 200
            assert engine.calls[0].request.body == body
            await client.request(chat())
            assert (await client.answer()).status == 200

    run(scenario())


def test_bytes_in_flight_are_bounded_and_returned() -> None:
    go_on = asyncio.Event()

    async def slow(call: object) -> None:
        await go_on.wait()
        await answer(call)  # type: ignore[arg-type]

    async def scenario() -> None:
        base = small(10**6, 5000)
        async with engines(slow) as [engine], running(base, flash=[engine.url]) as gateway:  # type: ignore[arg-type]
            body = chat("x" * 2500)
            first = asyncio.create_task(gateway.ask(body))
            await eventually(lambda: engine.calls, "the first request runs")
            got = await gateway.ask(body)
            assert (got.status, got.error["code"]) == (429, "TooManyBytesInFlight")
            assert got.headers["retry-after"] == "1"
            go_on.set()
            assert (await first).status == 200
            assert (await gateway.ask(body)).status == 200

    run(scenario())


def test_an_upload_that_fits_into_no_memory_is_refused_before_it_is_sent() -> None:
    async def scenario() -> None:
        async with running(small(10**6, 5000)) as gateway:  # type: ignore[arg-type]
            client = await gateway.client()
            await client.send(head("content-length: 6000", "expect: 100-continue"))
            got = await client.answer()
            assert (got.status, got.error["code"]) == (429, "TooManyBytesInFlight")

    run(scenario())


def test_a_length_that_is_only_promised_keeps_nobody_out() -> None:
    async def scenario() -> None:
        base = small(10**6, 5000)
        async with engines(answer) as [engine], running(base, flash=[engine.url]) as gateway:  # type: ignore[arg-type]
            idle = await gateway.client()
            await idle.send(head("content-length: 4900", body="{"))
            await eventually(lambda: gateway.metric("glm_gateway_body_bytes") == 1, "it arrived")
            assert (await gateway.ask(chat("x" * 2500))).status == 200
            idle.abort()
            await eventually(lambda: gateway.metric("glm_gateway_body_bytes") == 0, "returned")

    run(scenario())


def test_a_trailer_without_end_is_refused() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            client = await gateway.client()
            await client.send(
                head("transfer-encoding: chunked", body="2\r\n{}\r\n0\r\nx-trailer: ")
            )
            client.writer.write(b"a" * 1_000_000)
            got = await client.answer()
            assert (got.status, got.error["code"]) == (400, "InvalidRequest")
            assert "trailers" in got.error["message"]

    run(scenario())


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /v1/chat",
        head("content-length: 9", body="{"),
        head("content-length: 50000000", body="{"),
        # What came fast earns no right to stand still for an hour.
        head("content-length: 50000000", body="x" * 2_000_000),
        head("transfer-encoding: chunked", body="2\r\n{}\r\n"),
    ],
)
def test_a_request_that_comes_too_slowly_times_out(sent: bytes) -> None:
    timings = shorter(header=0.05, body_grace=0.05)

    async def scenario() -> None:
        async with running(timings=timings) as gateway:
            client = await gateway.client()
            await client.send(sent)
            got = await client.answer()
            assert (got.status, got.error["code"]) == (408, "RequestTimeout")
            assert await client.ended()

    run(scenario())


def test_trickling_bytes_do_not_extend_the_header_deadline() -> None:
    async def scenario() -> None:
        async with running(timings=shorter(header=0.1)) as gateway:
            client = await gateway.client()

            async def trickle() -> None:
                while True:
                    client.writer.write(b"x")
                    await asyncio.sleep(0.01)

            trickling = asyncio.create_task(trickle())
            assert (await client.answer()).status == 408
            trickling.cancel()

    run(scenario())


def test_an_idle_connection_is_closed_without_a_word() -> None:
    async def scenario() -> None:
        async with running(timings=shorter(keep_alive=0.05)) as gateway:
            client = await gateway.client()
            assert await client.reader.read() == b""

    run(scenario())


def test_what_arrived_of_a_body_is_returned_when_its_client_leaves() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            client = await gateway.client()
            await client.send(head("content-length: 50000000", body="x" * 1000))
            await eventually(lambda: gateway.metric("glm_gateway_body_bytes") == 1000, "reserved")
            client.abort()
            await eventually(lambda: gateway.metric("glm_gateway_body_bytes") == 0, "returned")

    run(scenario())


def test_the_error_of_a_defect_is_500_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with running() as gateway:

            def broken(*_: object) -> None:
                raise RuntimeError("boom")

            monkeypatch.setattr(gateway.gateway, "judge", broken)
            got = await gateway.ask(chat())
            assert (got.status, got.error["code"]) == (500, "InternalError")
            assert "boom" in caplog.text
            assert "boom" not in json.dumps(got.error)

    run(scenario())
