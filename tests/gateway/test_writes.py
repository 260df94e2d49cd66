"""How many writes an answer is: each wakes the client and costs the kernel more than us."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gateway_wires import Wire, receive
from glm_serving.gateway.client import ClientConnection, Service
from glm_serving.gateway.limits import Timings

REQUEST = b"GET /v1/models HTTP/1.1\r\nhost: g\r\n\r\n"
EVENT = b"data: {}\n\n"


class _Gateway:
    """What a connection needs, and nothing happens to a request."""

    timings = Timings()
    draining = False
    rule_headers: frozenset[bytes] = frozenset()

    def admit(self, *_: object) -> int:
        return 0

    def take_bytes(self, count: int) -> bool:
        return count == 0

    def begin(self, *_: object) -> None:
        pass

    connected = begin


async def _answered(answer: Callable[[ClientConnection], None]) -> list[bytes]:
    """The writes of an answer to one request."""
    transport = Wire()
    connection = ClientConnection(cast(Service, _Gateway()))
    connection.connection_made(transport)
    receive(connection, REQUEST)
    answer(connection)
    return transport.writes


def _whole(connection: ClientConnection) -> None:
    connection.start(200, {}, None, more=True)
    connection.write(EVENT, more=True)
    connection.end()


def _known_length(connection: ClientConnection) -> None:
    connection.start(200, {}, len(EVENT), more=True)
    connection.write(EVENT, more=True)
    connection.end()


@pytest.mark.parametrize(
    ("answer", "body"),
    [(_whole, b"a\r\n%s\r\n0\r\n\r\n" % EVENT), (_known_length, EVENT)],
    ids=["chunked", "known length"],
)
def test_an_answer_that_came_in_one_piece_leaves_in_one(
    answer: Callable[[ClientConnection], None], body: bytes
) -> None:
    (write,) = asyncio.run(_answered(answer))
    assert write.partition(b"\r\n\r\n")[2] == body


def test_events_leave_at_once_and_the_end_with_the_last() -> None:
    def answer(connection: ClientConnection) -> None:
        connection.start(200, {}, None, more=True)
        connection.write(EVENT)
        connection.write(EVENT, more=True)
        connection.end()

    first, last = asyncio.run(_answered(answer))
    assert first.endswith(b"a\r\n%s\r\n" % EVENT)
    assert last == b"a\r\n%s\r\n0\r\n\r\n" % EVENT


def test_what_was_to_leave_with_the_end_leaves_with_a_cut() -> None:
    def answer(connection: ClientConnection) -> None:
        connection.start(200, {}, None, more=True)
        connection.write(EVENT, more=True)
        connection.cut()

    (write,) = asyncio.run(_answered(answer))
    assert write.endswith(b"a\r\n%s\r\n" % EVENT)
