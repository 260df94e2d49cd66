"""One client connection: reads requests within limits, writes answers with back-pressure."""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol, cast

from glm_serving.compat import override
from glm_serving.gateway import dialects
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.http import RequestHead, RequestParser, response_head
from glm_serving.gateway.limits import (
    MAX_HEAD_BYTES,
    MAX_PIPELINED_BYTES,
    READ_BYTES,
    WRITE_BUFFER_BYTES,
)
from glm_serving.gateway.reasons import HEADERS_TOO_LARGE, REQUEST_TIMEOUT, SHUTTING_DOWN
from glm_serving.gateway.uploads import Budget, Upload, reserve

_SCRATCH = memoryview(bytearray(READ_BYTES))
"""Read buffer of every connection: the loop fills it and calls `buffer_updated` at once."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answerer(Protocol):
    """What runs one request; the connection tells it what happens to the client."""

    def client_gone(self) -> None:
        """The client left: abort."""

    def client_paused(self) -> None:
        """The client does not read as fast as bytes come."""

    def client_resumed(self) -> None:
        """The client reads again."""


class Service(Budget, Protocol):
    """What a connection needs from the gateway."""

    draining: bool
    """The process is stopping: answers end their connections."""

    @property
    def rule_headers(self) -> frozenset[bytes]:
        """Headers that are kept for the rules of the configuration."""

    def admit(self, connection: ClientConnection, head: RequestHead) -> int:
        """Judge a head before its body is read; returns the bytes the body may have."""

    def begin(self, connection: ClientConnection, head: RequestHead, body: Body) -> None:
        """Run a request. The reserved bytes of the body are now the service's to return."""

    def refuse(
        self, connection: ClientConnection, head: RequestHead | None, refusal: Refusal
    ) -> None:
        """Answer a request whose head or body was refused."""

    def connected(self, connection: ClientConnection) -> None:
        """A connection was opened."""

    def disconnected(self, connection: ClientConnection) -> None:
        """A connection was closed."""


class _Reading(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    NOTHING = enum.auto()
    """A request runs: only its end of connection matters, and what is sent ahead waits."""
    WASTE = enum.auto()
    """The answer is given and the connection ends: drop what still comes."""


class ClientConnection(asyncio.BufferedProtocol):
    """Reads one request after another and hands each to the service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._clock = asyncio.get_running_loop().time
        self._reading = _Reading.HEAD
        self._ahead = b""
        """Bytes read and not yet parsed."""
        self._head_begun = False
        self._head = RequestHead()
        self._parser = RequestParser()
        self._upload: Upload | None = None
        """The body that is being read."""
        self._deadline: float | None = None
        self._stalled_since: float | None = None
        self._chunked_answer = False
        self._held_back = b""
        """Bytes of the answer that leave together with the next ones."""
        self._unsent = 0
        """Bytes that waited at the last look at a connection that is over."""
        self._close_after = False
        self.answerer: Answerer | None = None
        self.sent_bytes = 0
        """Body bytes written for the current request."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to wait for a request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._deadline = self._clock() + self._service.timings.keep_alive
        self._service.connected(self)

    # --- reading

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop reads to, and at most how much."""
        return _SCRATCH if self._upload is None else _SCRATCH[: self._upload.room]

    @override
    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self._upload is not None:
            self._read_body(self._upload, _SCRATCH[:nbytes])
        elif self._reading is not _Reading.WASTE:
            self._ahead += bytes(_SCRATCH[:nbytes])
            if self._reading is _Reading.HEAD:
                self._read_head()
            elif len(self._ahead) > MAX_PIPELINED_BYTES:
                # Not paused: then the end of the connection would not be seen either.
                self._ahead = b""
                self._close_after = True

    @override
    def eof_received(self) -> bool:
        """A client that closes its side has left: nginx and the engines take it so too."""
        return False

    def _read_head(self) -> None:
        end = self._ahead.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._ahead) <= MAX_HEAD_BYTES:
            if not self._head_begun:
                self._head_begun = True
                self._head = RequestHead()
                self._deadline = self._clock() + self._service.timings.header
            return
        self._head_begun = False
        self._head, self._parser = RequestHead(), RequestParser(self._service.rule_headers)
        try:
            if not 4 <= end <= MAX_HEAD_BYTES:
                raise Refusal(
                    HEADERS_TOO_LARGE, f"the head of the request is over {MAX_HEAD_BYTES} bytes"
                )
            data, self._ahead = self._ahead[:end], self._ahead[end:]
            self._head = self._parser.head(data)
            upload = self._missing_body(self._service.admit(self, self._head))
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if upload is not None:
            self._start_upload(upload)
            return
        length = self._head.content_length
        body, self._ahead = self._ahead[:length], self._ahead[length:]
        self._body_read(body)

    def _missing_body(self, allowed: int) -> Upload | None:
        """How to read the body; None when it came with its head, as most do: then it is reserved.

        Raises:
            Refusal: it is too long, or does not fit into memory now.
        """
        head = self._head
        if head.chunked or head.content_length > len(self._ahead):
            return Upload(self._service, self._clock, head, self._parser, allowed)
        reserve(self._service, head.content_length, head.content_length, allowed)
        return None

    def _start_upload(self, upload: Upload) -> None:
        if self._head.expects_continue and not self._ahead:
            self._transport.write(_CONTINUE)
        self._reading, self._upload = _Reading.BODY, upload
        room = upload.room
        ahead, self._ahead = self._ahead[:room], self._ahead[room:]
        self._read_body(upload, ahead)

    def _read_body(self, upload: Upload, data: bytes | memoryview) -> None:
        try:
            upload.add(data)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        self._deadline = upload.deadline
        if upload.complete:
            self._close_after |= self._parser.overrun
            self._body_read(upload.body)

    def _body_read(self, body: Body) -> None:
        self._reading, self._upload = _Reading.NOTHING, None
        self._deadline = None
        self.sent_bytes = 0
        self._service.begin(self, self._head, body)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer before the request was read: the connection cannot go on."""
        known = self._head if self._head.method else None
        self._reading = _Reading.NOTHING
        self._drop_upload()
        self._close_after = True
        self.sent_bytes = 0
        self._service.refuse(self, known, refusal)

    def _drop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.drop()

    # --- writing

    def start(
        self, status: int, headers: dict[bytes, bytes], length: int | None, more: bool = False
    ) -> None:
        """Write the head of an answer; without a length its body is chunked.

        With `more` the caller writes of the body at once, and both leave together.
        """
        self._chunked_answer = length is None and self._head.chunks_allowed
        if length is not None:
            headers[b"content-length"] = b"%d" % length
        elif self._chunked_answer:
            headers[b"transfer-encoding"] = b"chunked"
        else:
            self._close_after = True
        self._close_after |= not self._head.keep_alive or self._service.draining
        if self._close_after:
            headers[b"connection"] = b"close"
        self._send(response_head(status, headers), more)

    def write(self, data: bytes, more: bool = False) -> None:
        """Write some of the body; with `more` the end follows at once, and both leave together."""
        self.sent_bytes += len(data)
        if self._chunked_answer:
            data = b"%x\r\n%s\r\n" % (len(data), data)
        if more or self._held_back:
            self._send(data, more)
        else:
            # Most chunks of a stream: spared one more call.
            self._transport.write(data)

    def _send(self, data: bytes, more: bool = False) -> None:
        """Each write wakes the client: what leaves together costs one."""
        if self._held_back:
            data, self._held_back = self._held_back + data, b""
        if more:
            self._held_back = data
        elif data:
            self._transport.write(data)

    def end(self) -> None:
        """The answer is complete: go on with the next request, or close."""
        self.answerer = None
        self._send(b"0\r\n\r\n" if self._chunked_answer else b"")
        if self._close_after:
            self._close_gently()
            return
        self._reading = _Reading.HEAD
        self._deadline = self._clock() + self._service.timings.keep_alive
        if self._ahead:
            # Not from within this answer: a row of short requests would nest without end.
            asyncio.get_running_loop().call_soon(self._next_request)

    def _next_request(self) -> None:
        if self._reading is _Reading.HEAD and self._ahead and not self._transport.is_closing():
            self._read_head()

    def cut(self) -> None:
        """End the connection in the middle of an answer, so that it cannot pass for complete."""
        self.answerer = None
        self._reading = _Reading.WASTE
        self._send(b"")
        # Closing sends what waits first, and would wait for a client that never reads.
        self._await_reader(self._transport.get_write_buffer_size())
        self._transport.close()

    def _close_gently(self) -> None:
        """Close so that the answer is received even while the client still sends."""
        self._reading = _Reading.WASTE
        self._deadline = self._clock() + self._service.timings.linger
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def refuse(self, refusal: Refusal, headers: dict[bytes, bytes]) -> None:
        """Answer with an error in full, in the dialect of the path."""
        dialect = dialects.of(self._head.path)
        headers |= refusal.headers
        wait = refusal.retry_after(dialect.max_retry_after_seconds)
        if wait is not None:
            headers[b"retry-after"] = b"%d" % wait
        if refusal.reason.final:
            headers[b"x-should-retry"] = b"false"
        self.reply(refusal.reason.status, headers, dialect.body(refusal))

    def reply(self, status: int, headers: dict[bytes, bytes], data: bytes) -> None:
        """Answer in full with JSON; the answer to HEAD is its head alone."""
        headers[b"content-type"] = b"application/json"
        has_body = self._head.method != "HEAD"
        self.start(status, headers, len(data), more=has_body)
        if has_body:
            self.write(data)
        self.end()

    @property
    def stalled(self) -> bool:
        """Whether unsent bytes wait for the client to read."""
        return self._stalled_since is not None

    # --- the life of the connection

    @override
    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._stalled_since = self._clock()
        if self.answerer is not None:
            self.answerer.client_paused()

    @override
    def resume_writing(self) -> None:
        """The client keeps up again."""
        self._stalled_since = None
        if self.answerer is not None:
            self.answerer.client_resumed()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: abort what runs for it."""
        self._drop_upload()
        answerer, self.answerer = self.answerer, None
        if answerer is not None:
            answerer.client_gone()
        self._service.disconnected(self)

    def sweep(self, now: float) -> None:
        """Enforce the time limits; called about once a second."""
        stalled = self._stalled_since
        if stalled is not None and now - stalled > self._service.timings.write_stall:
            self._transport.abort()
        elif self._deadline is not None and now >= self._deadline:
            self._expire()

    def _expire(self) -> None:
        self._deadline = None
        if self._reading is _Reading.WASTE:
            self._expire_waste()
        elif self.receiving:
            self._refuse(Refusal(REQUEST_TIMEOUT))
        else:
            self._transport.abort()

    def _expire_waste(self) -> None:
        """End a connection that is over, unless its client has read since the last look."""
        unsent = self._transport.get_write_buffer_size()
        if unsent in {0, self._unsent}:
            self._transport.abort()
        else:
            self._await_reader(unsent)

    def _await_reader(self, unsent: int) -> None:
        self._unsent = unsent
        self._deadline = self._clock() + self._service.timings.write_stall

    @property
    def receiving(self) -> bool:
        """Whether a request has begun to arrive and is not yet complete."""
        if self._reading is _Reading.HEAD:
            return bool(self._ahead)
        return self._reading is _Reading.BODY

    def shut_down(self) -> None:
        """The time to finish is over: answer a request that is still being received."""
        if self.receiving:
            self._refuse(Refusal(SHUTTING_DOWN))

    def close_idle(self) -> None:
        """Close now if no request is being received or answered."""
        if self._reading is _Reading.HEAD and not self._ahead:
            self._transport.close()
