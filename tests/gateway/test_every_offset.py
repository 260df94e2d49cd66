"""A client that leaves, and a replica that dies, at every single byte of an exchange."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections import Counter

import pytest

from gateway_fakes import (
    ANSWER,
    Answer,
    Call,
    Running,
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

ABORT_SECONDS = 0.1
"""From the end of the client's connection to the end of the engine's."""
EVENTS = events(2)
STREAM = b"".join(EVENTS)
STREAMED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in EVENTS)
    + b"0\r\n\r\n"
)
BODY = json.dumps(ANSWER).encode()
UNARY = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
STEPS = pytest.mark.parametrize("start", range(4))
"""Every fourth offset from here on: four short tests instead of a long one."""


@STEPS
def test_a_client_that_leaves_at_any_byte_of_its_request_leaves_nothing(start: int) -> None:
    whole = request_bytes(chat(stream=True))

    async def wait(call: Call) -> None:
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(wait) as [engine], running(flash=[engine.url]) as gateway:
            for offset in range(start, len(whole) + 1, 4):
                client = await gateway.client()
                await client.send(whole[:offset])
                if offset == len(whole):
                    await eventually(lambda: engine.calls, "the request is at the engine")
                client.abort()
                await eventually(lambda: gateway.gateway.connections == 0, "it is noticed")
                await gateway.at_rest()
                gateway.clients.clear()
            assert len(engine.calls) == (len(whole) % 4 == start)

    run(scenario())


@STEPS
def test_a_client_that_leaves_at_any_byte_of_its_answer_ends_the_engines_work(start: int) -> None:
    sent = b""
    seconds = []

    async def script(call: Call) -> None:
        await call.send(sent)
        await call.gone.wait()

    async def scenario() -> None:
        nonlocal sent
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            for offset in range(start, len(STREAMED) - 4, 4):
                sent = STREAMED[:offset]
                client = await gateway.client()
                await client.request(chat(stream=True))
                await eventually(lambda: engine.calls, "the request is at the engine")
                call = engine.calls.pop()
                if EVENTS[0] in sent:
                    await client.head()
                left = time.monotonic()
                client.abort()
                await asyncio.wait_for(call.gone.wait(), 5)
                seconds.append(time.monotonic() - left)
                await gateway.at_rest()
                gateway.clients.clear()

    run(scenario(), 28)
    assert statistics.median(seconds) < ABORT_SECONDS


class Dying:
    """An engine that reads so much of a request, answers so much, and dies."""

    def __init__(self) -> None:
        self.reads = 0
        self.answers = b""
        self.resets = True
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readexactly(self.reads)
            self.requests += 1
            writer.write(self.answers)
            await writer.drain()
        # A process that is killed with unread bytes resets its connections, else it ends them.
        if self.resets:
            writer.transport.abort()
        else:
            writer.close()


@contextlib.asynccontextmanager
async def dying(engine: Dying):  # type: ignore[no-untyped-def]
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def ask_first(gateway: Running, name: str, body: bytes) -> Answer:
    """Ask with this replica rested and the first to be tried."""
    replicas = gateway.gateway.pools["flash"].tier.replicas
    replicas[name].breaker.answered()
    for replica in replicas.values():
        replica.picked = 0 if replica.name == name else 1
    return await gateway.ask(body)


def verdict(got: Answer, whole: bytes) -> str:
    """What a client can tell; anything else fails the test."""
    if got.status != 200:
        assert got.complete
        assert got.error["code"]
        return "refused"
    if got.complete:
        assert got.body == whole
        return "whole"
    assert whole.startswith(got.body.partition(b'data: {"error"')[0])
    return "broken"


@STEPS
@pytest.mark.parametrize("resets", [True, False])
def test_a_replica_that_dies_at_any_byte_of_a_request_costs_its_client_nothing(
    start: int, resets: bool
) -> None:
    body = chat("x" * 50)

    async def scenario() -> None:
        bad = Dying()
        bad.resets = resets
        async with (
            engines(answer) as [good],
            dying(bad) as url,
            running(timings=shorter(back_off=0.001), flash=[url, good.url]) as gateway,
        ):
            await ask_first(gateway, "flash-1", body)
            forwarded = 120 + len(body)
            for bad.reads in range(start, forwarded, 4):
                got = await ask_first(gateway, "flash-0", body)
                assert (got.status, got.complete) == (200, True)
                assert got.headers["x-glm-replica"] == "flash-1"
            assert bad.requests == len(range(start, forwarded, 4))

    run(scenario(), 28)


@STEPS
@pytest.mark.parametrize(("stream", "resets"), [(True, True), (True, False), (False, True)])
def test_a_replica_that_dies_at_any_byte_of_an_answer_is_replaced_or_seen_to_break(
    start: int, stream: bool, resets: bool
) -> None:
    response, whole = (STREAMED, STREAM) if stream else (UNARY, BODY)
    first_byte = response.index(whole[:20]) + 1
    body = chat(stream=stream)

    async def script(call: Call) -> None:
        await call.send(response)

    async def scenario() -> Counter[str]:
        bad = Dying()
        bad.resets = resets
        bad.reads = 60
        ends: Counter[str] = Counter()
        async with (
            engines(script) as [good],
            dying(bad) as url,
            running(timings=shorter(back_off=0.001), flash=[url, good.url]) as gateway,
        ):
            for offset in range(start, len(response) + 1, 4):
                bad.answers = response[:offset]
                got = await ask_first(gateway, "flash-0", body)
                end = verdict(got, whole)
                if offset < first_byte:
                    assert (end, got.headers["x-glm-replica"]) == ("whole", "flash-1")
                else:
                    assert got.headers["x-glm-replica"] == "flash-0"
                ends[end] += 1
                await gateway.at_rest()
        return ends

    ends = run(scenario(), 28)
    assert ends["broken"] >= (len(response) - first_byte) // 4 - 2
    assert not ends["refused"]
