"""Request heads as the gateway reads them, and response heads as it writes them."""

from __future__ import annotations

import http
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httptools

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.keys import ANYONE, Key
from glm_serving.gateway.limits import MAX_HEADERS
from glm_serving.gateway.reasons import HEADERS_TOO_LARGE, INVALID_REQUEST

_READ = frozenset(
    {
        b"accept",
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"session_id",
        b"traceparent",
        b"tracestate",
        b"transfer-encoding",
        b"user-agent",
        b"x-api-key",
        b"x-glm-session",
        b"x-glm-task",
        b"x-glm-tier",
        b"x-request-id",
        b"x-session-id",
        b"x-stainless-read-timeout",
        b"x-stainless-retry-count",
    }
)
"""Every header with any effect; all others, internal ones from outside included, are dropped,
except those that rules of the configuration look at."""
_FORWARDED = (b"accept", b"content-type", b"traceparent", b"tracestate", b"user-agent")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SESSION = re.compile(r"[\x21-\x7e]{1,128}")
_SESSION_HEADERS = (b"x-glm-session", b"x-session-id", b"session_id")
"""The strongest first."""
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)
_PHRASES = {status.value: status.phrase for status in http.HTTPStatus} | {499: "Client Closed"}


@dataclass(slots=True)
class RequestHead:
    """The head of one request."""

    method: str = ""
    path: bytes = b""
    """Of the raw target, without the query string."""
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content_length: int = 0
    chunked: bool = False
    keep_alive: bool = True
    chunks_allowed: bool = True
    """HTTP/1.1 or later: the answer may be chunked."""
    key: Key = ANYONE
    """Whose request it is; set when it is let in."""

    def text(self, name: bytes) -> str:
        """A header's value, empty when it is not there."""
        value = self.headers.get(name)
        return "" if value is None else value.decode("latin-1")

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send its body."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"


class RequestParser:
    """Parses one request with llhttp: the head at once, a chunked body piece by piece."""

    def __init__(self, also: frozenset[bytes] = frozenset()) -> None:
        """`also`: names of further headers that are kept."""
        self._also = also
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._head = RequestHead()
        self._target = b""
        self._count = 0
        self._twice = b""
        self._head_done = False
        self._messages = 0
        self._pieces: list[bytes] = []
        self.complete = False
        """The body is complete."""
        self.overrun = False
        """Bytes of a further request came with the last chunk."""

    def head(self, data: bytes) -> RequestHead:
        """Parse a head, up to and with its empty line.

        Raises:
            Refusal: it is malformed, ambiguous about its length, or has too many lines.
        """
        if self._offers_upgrade(data):
            # A server may ignore the offer. The parser believes in it and would take no body.
            self._begin()
            self._offers_upgrade(_UPGRADE.sub(b"", data))
        if not self._head_done:
            raise Refusal(INVALID_REQUEST, "the head of the request is malformed")
        return self._finished_head()

    def _offers_upgrade(self, data: bytes) -> bool:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserError as error:
            raise Refusal(
                INVALID_REQUEST, f"the head of the request is malformed: {error}"
            ) from None
        return False

    def _finished_head(self) -> RequestHead:
        if self._count > MAX_HEADERS:
            raise Refusal(
                HEADERS_TOO_LARGE,
                f"the request has {self._count} headers: send at most {MAX_HEADERS}",
            )
        if self._twice:
            name = self._twice.decode("latin-1")
            raise Refusal(INVALID_REQUEST, f"header {name} is given twice: send it once")
        head = self._head
        head.path = self._target.partition(b"?")[0]
        head.content_length, head.chunked = _framing(head.headers)
        return head

    def chunks(self, data: bytes | memoryview) -> list[bytes]:
        """Parse a piece of a chunked body; returns its content.

        Raises:
            Refusal: the framing is malformed.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Refusal(INVALID_REQUEST, f"the chunked body is malformed: {error}") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def on_message_begin(self) -> None:
        """Parser callback."""
        self._messages += 1
        self.overrun = self._messages > 1

    def on_url(self, url: bytes) -> None:
        """Parser callback."""
        if not self.overrun:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Parser callback; trailers come here too and have no effect."""
        if self._head_done:
            return
        self._count += 1
        key = name.lower()
        if key in _READ or key in self._also:
            if key in self._head.headers:
                self._twice = key
            self._head.headers[key] = value

    def on_headers_complete(self) -> None:
        """Parser callback. What is asked here is forgotten with the end of the message."""
        self._head_done = True
        self._head.method = self._parser.get_method().decode("latin-1")
        self._head.chunks_allowed = self._parser.get_http_version() == "1.1"
        self._head.keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """Parser callback."""
        if not self.overrun:
            self._pieces.append(data)

    def on_message_complete(self) -> None:
        """Parser callback."""
        self.complete = True


def _framing(headers: Mapping[bytes, bytes]) -> tuple[int, bool]:
    """Content length and whether the body is chunked."""
    length, coding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if coding is None:
        return (int(length) if length is not None else 0), False
    if length is not None:
        raise Refusal(INVALID_REQUEST, "the request has both content-length and transfer-encoding")
    if coding.lower() != b"chunked":
        raise Refusal(INVALID_REQUEST, "transfer-encoding must be chunked")
    return 0, True


def upstream_head(head: RequestHead, host: str, request_id: str, length: int) -> bytes:
    """The head that a replica gets: the allowed headers only, and the body's true length."""
    lines = [
        b"POST ",
        head.path,
        b" HTTP/1.1\r\nhost: ",
        host.encode("latin-1"),
        b"\r\nx-request-id: ",
        request_id.encode("latin-1"),
        b"\r\ncontent-length: %d" % length,
    ]
    # What the client's Connection header names was meant for this hop only.
    named = head.headers.get(b"connection", b"").lower()
    for name in _FORWARDED:
        value = head.headers.get(name)
        if value is not None and name not in named:
            lines += (b"\r\n", name, b": ", value)
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


def response_head(status: int, headers: Mapping[bytes, bytes]) -> bytes:
    """A status line and headers, up to and with the empty line."""
    lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES.get(status, "Status").encode())]
    lines += [b"\r\n%s: %s" % pair for pair in headers.items()]
    lines.append(b"\r\n\r\n")
    return b"".join(lines)


def request_id_of(head: RequestHead | None) -> str:
    """The client's id if it is harmless in headers and logs, else a new one."""
    given = head.text(b"x-request-id") if head is not None else ""
    return given if _ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def session_of(head: RequestHead) -> str:
    """The session that the client names, if it is harmless in logs."""
    given = next(filter(None, map(head.text, _SESSION_HEADERS)), "")
    return given if _SESSION.fullmatch(given) else ""


def read_timeout_of(head: RequestHead) -> float | None:
    """Seconds for which the client waits for a byte, as the openai and anthropic packages tell."""
    try:
        seconds = float(head.text(b"x-stainless-read-timeout") or "nan")
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def trace_of(head: RequestHead) -> str:
    """The trace id of the client's `traceparent`, empty where that is not well-formed."""
    found = _TRACE.fullmatch(head.text(b"traceparent"))
    return found[1] if found else ""
