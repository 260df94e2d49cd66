"""The answer of a replica on its way to the client: passed on as it comes, then ended or cut."""

from __future__ import annotations

import msgspec

from glm_serving.gateway import usage
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.dialects import Dialect
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.reasons import ENGINE_REFUSED, UPSTREAM_FAILED
from glm_serving.gateway.sse import EventStream

COMMENT = b": keep-alive\n\n"
"""Both packages skip it: it has no `id:`, no `retry:` and is no empty event, where one raises."""
MAX_ERROR_BYTES = 64 * 1024


class Answer:
    """Begins with the first bytes of the replica's body, and ends once: complete or cut.

    A stream may be opened before, while the request is held: then it says comments, and whatever
    is no stream in the end is told as an event.
    """

    __slots__ = ("_client", "_dialect", "_error", "_events", "_status", "_tail", "opened")

    def __init__(self, client: ClientConnection, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self._events: EventStream | None = None
        self._tail = usage.Tail()
        self._status = 0
        self._error: bytearray | None = None
        """What the replica answered to a stream that was open already, where it is none."""
        self.opened = False
        """Whether a stream was begun before its replica answered."""

    def open(self, headers: dict[bytes, bytes]) -> None:
        """Begin a stream that no replica serves yet."""
        self.opened = True
        self._events = EventStream(self._dialect.token_event)
        headers[b"content-type"] = b"text/event-stream; charset=utf-8"
        self._client.start(200, headers, None)

    def comment(self) -> None:
        """Say that the stream still lives, unless its client reads nothing anyway."""
        if not self._client.stalled:
            self._client.write(COMMENT)

    def begin(self, status: int, headers: dict[bytes, bytes], streamed: bool) -> None:
        """Start with this head, which leaves together with the bytes that follow."""
        if self.opened:
            self._status = status
            self._error = None if streamed and status == 200 else bytearray()
            return
        if streamed:
            self._events = EventStream(self._dialect.token_event)
        length = headers.pop(b"content-length", None)
        self._client.start(status, headers, int(length) if length is not None else None, more=True)

    def push(self, data: bytes, last: bool) -> None:
        """Pass on some bytes; a torn event waits for its rest. After the `last` the end follows."""
        if self._error is not None:
            self._error += data[: MAX_ERROR_BYTES - len(self._error)]
            return
        self._tail.push(data)
        if self._events is not None:
            data = self._events.push(data)
        if data:
            self._client.write(data, more=last)

    def complete(self) -> bool:
        """Pass on what is left; False for a stream that misses its last event.

        Without a length nothing else tells a stream that was cut off between two events.
        """
        if self._error is not None:
            return False
        if self._events is None:
            return True
        rest = self._events.rest()
        if rest:
            self._client.write(rest)
        return self._tail.has_any(self._dialect.ends)

    def late_refusal(self) -> Refusal | None:
        """What a replica that refused a stream that was open already says, or nothing."""
        if self._error is None:
            return None
        text = _message_in(self._error)
        reason = ENGINE_REFUSED if 400 <= self._status < 500 else UPSTREAM_FAILED
        return Refusal(reason, f"the engine answered {self._status}: {text}")

    def say(self, refusal: Refusal) -> None:
        """Say inside a stream why it ends here, if it stands between two events."""
        if self._events is not None and not self._events.mid_event:
            self._client.write(self._dialect.event(refusal, self._tail))

    def usage(self, facts: Facts) -> usage.Usage:
        """The tokens that the engine reported, else an estimate from what has passed."""
        return self._tail.usage(self._dialect.counts) or usage.estimated(
            facts.prompt_tokens,
            self._dialect.tokens(self._events.marked) if self._events is not None else None,
            self._client.sent_bytes,
        )


class _Details(msgspec.Struct):
    message: str


class _Error(msgspec.Struct):
    error: _Details


def _message_in(body: bytearray) -> str:
    """The message of an engine's error object; its text where it is none."""
    try:
        return msgspec.json.decode(body, type=_Error).error.message
    except msgspec.DecodeError:
        return body[:1000].decode(errors="replace")
