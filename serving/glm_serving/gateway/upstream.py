"""One connection to a replica: sends a request's bytes, reads the response as it arrives."""

from __future__ import annotations

import asyncio
import socket
from typing import Protocol, cast

import httptools

from glm_serving.compat import override
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.upstreams import Replica

JOINED_BYTES = 16 * 1024
"""Bodies up to this size are sent in one piece with their head."""
_KEPT_HEADERS = frozenset({b"content-type", b"content-length", b"cache-control", b"retry-after"})
_DEAD_PEER = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_UNACKNOWLEDGED_MILLISECONDS = 30_000


class Receiver(Protocol):
    """Who asked: is told of each part of the response, and of the loss of the connection."""

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and kept headers are there."""

    def upstream_body(self, data: bytes, last: bool) -> None:
        """Some bytes of the body are there; after the last ones the end follows at once."""

    def upstream_end(self) -> None:
        """The response is complete; the connection is no longer the receiver's."""

    def upstream_lost(self, reused: bool, sent: bool) -> None:
        """The connection is gone before the end.

        `reused`: it had served before; `sent`: all of the request had left.
        """


class UpstreamConnection(asyncio.Protocol):
    """A kept-alive HTTP/1.1 connection that serves one request at a time."""

    __slots__ = (
        "_address",
        "_clock",
        "_complete",
        "_framed",
        "_headers",
        "_keep_alive",
        "_parser",
        "_paused",
        "_pieces",
        "_receiver",
        "_replica",
        "_status",
        "_transport",
        "_unsent",
        "_uses",
        "idle_since",
        "on_body",
    )

    def __init__(self, replica: Replica) -> None:
        self._clock = asyncio.get_running_loop().time
        self._replica = replica
        self._address = replica.address
        self._receiver: Receiver | None = None
        self._pieces: list[bytes] = []
        # Parser callback, once for each chunk of a stream: a method of ours would cost more.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._uses = 0
        self._paused = False
        self._unsent = False
        self._reset()
        self.idle_since = 0.0

    def _reset(self) -> None:
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._pieces.clear()
        self._complete = False
        self._framed = False
        self._keep_alive = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        # So that `pause_writing` and `resume_writing` tell whether anything is unsent.
        self._transport.set_write_buffer_limits(high=0)
        _notice_dead_peer(transport.get_extra_info("socket"))

    def send(self, receiver: Receiver, head: bytes, body: Body) -> None:
        """Send a request; `receiver` gets the response."""
        self._reset()
        self._receiver = receiver
        self._uses += 1
        if len(body) <= JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    def usable(self) -> bool:
        """Whether an idle connection still stands."""
        return not self._transport.is_closing()

    def pause(self) -> None:
        """Stop reading: the client does not keep up."""
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """Close at once and tell nobody: aborts a running request at the engine."""
        self._receiver = None
        if self in self._replica.idle:
            self._replica.idle.remove(self)
        self._transport.abort()

    @override
    def pause_writing(self) -> None:
        """Some of the request waits to leave."""
        self._unsent = True

    @override
    def resume_writing(self) -> None:
        """All of it has left."""
        self._unsent = False

    @override
    def data_received(self, data: bytes) -> None:
        """Parse what came and tell the receiver, in order."""
        receiver = self._receiver
        if receiver is None:
            self.close()
            return
        had_head = self._status != 0
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._lose()
            return
        if self._status and not had_head:
            receiver.upstream_head(self._status, self._headers)
        if self._pieces and self._receiver is receiver:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            receiver.upstream_body(body, self._complete)
        if self._complete and self._receiver is receiver:
            self._finish(receiver)

    def _finish(self, receiver: Receiver) -> None:
        self._receiver = None
        reusable = (
            self._keep_alive
            and self._replica.routable
            and self._replica.address == self._address
            and self._transport.get_write_buffer_size() == 0
            and not self._transport.is_closing()
        )
        if reusable:
            self.resume()
            self.idle_since = self._clock()
            self._replica.idle.append(self)
        else:
            self._transport.abort()
        receiver.upstream_end()

    def _lose(self) -> None:
        receiver, self._receiver = self._receiver, None
        self._transport.abort()
        if receiver is not None:
            receiver.upstream_lost(self._uses > 1, not self._unsent)

    @override
    def eof_received(self) -> bool:
        """A body without a length ends with its connection."""
        receiver = self._receiver
        if receiver is not None and self._status and not self._framed:
            self._receiver = None
            self._transport.abort()
            receiver.upstream_end()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver, if a response was still due."""
        if self in self._replica.idle:
            self._replica.idle.remove(self)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.upstream_lost(self._uses > 1, not self._unsent)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser callback."""
        key = name.lower()
        if key in _KEPT_HEADERS:
            self._headers[key] = value
        if key in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        """Parser callback."""
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status

    def on_message_complete(self) -> None:
        """Parser callback; informational responses end here too."""
        self._complete = self._status != 0
        # Asked here: the parser forgets it with the end of the message.
        self._keep_alive = self._parser.should_keep_alive()


def _notice_dead_peer(sock: socket.socket | None) -> None:
    """Let the kernel report a node that vanished without a word, within about 30 seconds."""
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, seconds in _DEAD_PEER:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        option = socket.TCP_USER_TIMEOUT
        sock.setsockopt(socket.IPPROTO_TCP, option, _UNACKNOWLEDGED_MILLISECONDS)


async def connect(replica: Replica, timeout_seconds: float) -> UpstreamConnection:
    """Open a connection to a replica.

    Raises:
        OSError: it cannot be reached; TimeoutError, a subclass, when it does not answer.
    """
    loop, address = asyncio.get_running_loop(), replica.address
    async with asyncio.timeout(timeout_seconds):
        _, connection = await loop.create_connection(
            lambda: UpstreamConnection(replica), address.host, address.port
        )
    return connection
