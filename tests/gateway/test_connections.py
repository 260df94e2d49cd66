"""The end of a client's connection: answers are received in full, and nobody stays for ever."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from gateway_fakes import (
    ANSWER,
    Call,
    Client,
    Running,
    answer,
    chat,
    engines,
    eventually,
    request_bytes,
    run,
    running,
    shorter,
)
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.limits import MAX_PIPELINED_BYTES

LONG = shorter(linger=60, write_stall=600)
"""Limits that no test waits for: it sweeps with a later time instead."""
BIG = ANSWER | {"choices": "x" * 50_000}
"""More than the buffers of a narrow connection hold, and too little to pause an engine."""


async def narrow(gateway: Running) -> tuple[Client, ClientConnection]:
    """A client that does not read, over small buffers, and the gateway's end of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", gateway.port))
    client = Client(*await asyncio.open_connection(sock=sock, limit=2**26))
    gateway.clients.append(client)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await eventually(lambda: gateway.gateway.connections == 1, "it is connected")
    (connection,) = gateway.gateway._connections
    own = connection._transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return client, connection


def read_on(client: Client) -> None:
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]


def unsent(connection: ClientConnection) -> int:
    return connection._transport.get_write_buffer_size()


async def big(call: Call) -> None:
    await call.json(200, BIG)


async def over(gateway: Running) -> None:
    await eventually(
        lambda: gateway.gateway.running == 0 and gateway.log(), "the answer is written"
    )


def test_a_slow_reader_gets_the_whole_answer_although_its_connection_ends() -> None:
    async def scenario() -> None:
        async with engines(big) as [engine], running(timings=LONG, flash=[engine.url]) as gateway:
            client, connection = await narrow(gateway)
            await client.request(chat(), connection="close")
            await over(gateway)
            assert unsent(connection)
            connection.sweep(gateway.gateway.clock() + 61)
            read_on(client)
            got = await client.answer()
            assert got.complete
            assert json.loads(got.body) == BIG

    run(scenario())


def test_a_reader_that_stops_before_the_end_of_its_last_answer_is_cut_off() -> None:
    async def scenario() -> None:
        async with engines(big) as [engine], running(timings=LONG, flash=[engine.url]) as gateway:
            client, connection = await narrow(gateway)
            await client.request(chat(), connection="close")
            await over(gateway)
            connection.sweep(gateway.gateway.clock() + 61)
            connection.sweep(gateway.gateway.clock() + 661)
            await eventually(lambda: gateway.gateway.connections == 0, "it is cut off")

    run(scenario())


def test_a_head_that_comes_too_slowly_is_not_taken_for_the_request_before_it() -> None:
    async def scenario() -> None:
        async with (
            engines(answer) as [engine],
            running(timings=LONG, flash=[engine.url]) as gateway,
        ):
            client = await gateway.client()
            await client.request(chat(), x_request_id="first")
            assert (await client.answer()).headers["x-request-id"] == "first"
            (connection,) = gateway.gateway._connections
            await client.send(b"POST /v1/chat")
            await eventually(lambda: connection.receiving, "the head has begun")
            connection.sweep(gateway.gateway.clock() + 11)
            got = await client.answer()
            assert got.status == 408
            assert got.headers["x-request-id"] != "first"
            assert "path" not in gateway.log()[-1]

    run(scenario())


def test_a_held_client_that_sent_much_ahead_and_left_is_forgotten() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            client = await gateway.client()
            await client.request(chat())
            await eventually(lambda: gateway.gateway.held == 1, "it is held")
            await client.send(b"x" * 10 * MAX_PIPELINED_BYTES)
            client.abort()
            await eventually(lambda: gateway.gateway.held == 0, "it is forgotten")

    run(scenario())


def test_a_client_that_sends_too_much_ahead_gets_the_running_answer_as_its_last() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(timings=LONG) as gateway:
            client = await gateway.client()
            await client.request(chat())
            await eventually(lambda: gateway.gateway.held == 1, "it is held")
            (connection,) = gateway.gateway._connections
            await client.send(request_bytes(chat("x" * 2 * MAX_PIPELINED_BYTES)))
            await eventually(lambda: connection._close_after, "it is too much")
            gateway.endpoints(flash=[engine.url])
            got = await client.answer()
            assert (got.status, got.headers["connection"]) == (200, "close")
            assert await client.ended()
            assert len(engine.calls) == 1

    run(scenario())


@pytest.mark.parametrize("reads", [True, False])
def test_a_connection_after_a_broken_stream_lasts_as_long_as_its_client_reads(reads: bool) -> None:
    event = b"data: {" + b"x" * 50_000 + b"}\n\n"

    async def breaks(call: Call) -> None:
        await call.stream_head()
        await call.chunk(event)
        call.writer.close()

    async def scenario() -> None:
        async with (
            engines(breaks) as [engine],
            running(timings=LONG, flash=[engine.url]) as gateway,
        ):
            client, connection = await narrow(gateway)
            await client.request(chat(stream=True))
            await over(gateway)
            assert unsent(connection)
            if reads:
                read_on(client)
                got = await client.answer()
                assert got.body.startswith(event)
                assert b"StreamBroken" in got.body
            else:
                connection.sweep(gateway.gateway.clock() + 601)
            await eventually(lambda: gateway.gateway.connections == 0, "it is closed")

    run(scenario())
