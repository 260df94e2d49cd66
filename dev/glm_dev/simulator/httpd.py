"""A small HTTP/1.1 server on asyncio: keep-alive, chunked bodies, streams, client aborts."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from typing_extensions import override
else:

    def override(method: T) -> T:
        """Python 3.11 has none, and this package is standard library only."""
        return method


MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 1 << 30
QUIET = ("/health", "/metrics", "/ping")
"""Paths without an access log line, as with --disable-access-log-for-endpoints."""
log = logging.getLogger("simulator.http")


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


class BadRequest(ValueError):
    """What arrived is not HTTP/1.1."""


class Responder:
    """Writes one answer; a stream is sent chunked and waits for a slow reader."""

    def __init__(self, transport: asyncio.Transport, writable: asyncio.Event) -> None:
        self._transport = transport
        self._writable = writable
        self.status = 0
        """The status sent; 0 while nothing is."""

    @property
    def started(self) -> bool:
        """Whether anything was sent."""
        return self.status != 0

    def send(
        self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole answer."""
        self.status = status
        length = {"content-length": str(len(body)), "content-type": kind}
        self._transport.write(_head(status, {**length, **(headers or {})}) + body)

    def json(self, status: int, value: Any) -> None:
        """Send a JSON answer."""
        self.send(
            status,
            json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
            "application/json",
        )

    def start(self, status: int, kind: str) -> None:
        """Begin a stream."""
        self.status = status
        self._transport.write(_head(status, {"content-type": kind, "transfer-encoding": "chunked"}))

    async def write(self, data: bytes) -> None:
        """Send a piece of the stream once the client has taken enough of the earlier ones."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self._writable.wait()

    def end(self) -> None:
        """End the stream."""
        self._transport.write(b"0\r\n\r\n")


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "server: uvicorn"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Handler = Callable[[Request, Responder], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One connection: one request at a time, whose handler is cancelled when the client leaves."""

    def __init__(self, handler: Handler, open_connections: set[Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The client left: nobody wants the answer any more."""
        self._open.discard(self)
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    @override
    def pause_writing(self) -> None:
        """The client reads slower than we write."""
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    @override
    def data_received(self, data: bytes) -> None:
        """Take in bytes and start the next request when it is whole."""
        self._buffer += data
        self._next()

    def close(self) -> None:
        """Close, at once when idle, else after the answer in progress."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        """Start the next request if it has arrived whole and none is being answered."""
        if self._task is not None or self._transport is None or self._transport.is_closing():
            return
        try:
            request = take_request(self._buffer)
        except BadRequest as error:
            self._transport.write(_head(400, {"content-length": "0", "connection": "close"}))
            log.warning("closing a connection: %s", error)
            self._transport.close()
            return
        if request is not None:
            self._task = asyncio.ensure_future(self._answer(request))

    async def _answer(self, request: Request) -> None:
        assert self._transport is not None
        responder = Responder(self._transport, self._writable)
        try:
            await self._handler(request, responder)
        finally:
            self._task = None
            self._log_access(request, responder.status)
        if request.headers.get("connection", "").lower() == "close":
            self._transport.close()
        self._next()

    def _log_access(self, request: Request, status: int) -> None:
        """One line in uvicorn's form, which tools read the engine's clients from."""
        if self._transport is None or request.path in QUIET:
            return
        host, port = self._transport.get_extra_info("peername")[:2]
        what = f"{request.method} {request.path} HTTP/1.1"
        log.info('%s:%d - "%s" %s', host, port, what, status or "aborted")


def take_request(buffer: bytearray) -> Request | None:
    """Take the first whole request off the buffer, or None. Raises BadRequest."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > MAX_HEAD_BYTES:
            raise BadRequest(f"no end of the headers after {MAX_HEAD_BYTES} bytes")
        return None
    first, *rest = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    try:
        method, target, _ = first.split(" ")
        headers = {k.strip().lower(): v.strip() for k, v in (r.split(":", 1) for r in rest)}
        taken = _body(buffer, end + 4, headers)
    except ValueError as error:
        raise BadRequest(f"{first[:80]!r}: {error}") from None
    if taken is None:
        return None
    body, used = taken
    del buffer[:used]
    return Request(method, target.partition("?")[0], headers, body)


def _body(buffer: bytearray, at: int, headers: Mapping[str, str]) -> tuple[bytes, int] | None:
    """The body and where it ends, or None while bytes are missing."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _chunked(buffer, at)
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= MAX_BODY_BYTES:
        raise ValueError(f"content-length {length}")
    if len(buffer) < at + length:
        return None
    return bytes(buffer[at : at + length]), at + length


def _chunked(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    parts: list[bytes] = []
    while (line := buffer.find(b"\r\n", at)) >= 0:
        size = int(bytes(buffer[at:line]).partition(b";")[0], 16)
        start = line + 2
        if len(buffer) < start + size + 2:
            return None
        if size == 0:
            return b"".join(parts), start + 2
        parts.append(bytes(buffer[start : start + size]))
        at = start + size + 2
    return None
