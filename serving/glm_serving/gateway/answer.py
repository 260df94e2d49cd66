"""The answer of a replica on its way to the client: passed on as it comes, then ended or cut."""

from __future__ import annotations

from glm_serving.gateway import usage
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.dialects import Dialect
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.sse import EventStream


class Answer:
    """Begins with the first bytes of the replica's body, and ends once: complete or cut."""

    __slots__ = ("_client", "_dialect", "_events", "_tail")

    def __init__(self, client: ClientConnection, dialect: Dialect) -> None:
        self._client = client
        self._dialect = dialect
        self._events: EventStream | None = None
        self._tail = usage.Tail()

    def begin(self, status: int, headers: dict[bytes, bytes], streamed: bool) -> None:
        """Start with this head, which leaves together with the bytes that follow."""
        if streamed:
            self._events = EventStream()
        length = headers.pop(b"content-length", None)
        self._client.start(status, headers, int(length) if length is not None else None, more=True)

    def push(self, data: bytes, last: bool) -> None:
        """Pass on some bytes; a torn event waits for its rest. After the `last` the end follows."""
        self._tail.push(data)
        if self._events is not None:
            data = self._events.push(data)
        if data:
            self._client.write(data, more=last)

    def complete(self) -> bool:
        """Pass on what is left; False for a stream that misses its last event.

        Without a length nothing else tells a stream that was cut off between two events.
        """
        if self._events is None:
            return True
        rest = self._events.rest()
        if rest:
            self._client.write(rest)
        return self._tail.has_any(self._dialect.ends)

    def say(self, refusal: Refusal) -> None:
        """Say inside a stream why it ends here, if it stands between two events."""
        if self._events is not None and not self._events.mid_event:
            self._client.write(self._dialect.event(refusal, self._events.events))

    def usage(self, facts: Facts) -> usage.Usage:
        """The tokens that the engine reported, else an estimate from what has passed."""
        return self._tail.usage(self._dialect.counts) or usage.estimated(
            facts.prompt_tokens,
            self._events.events if self._events is not None else 0,
            self._dialect.opening_events,
            self._client.sent_bytes,
        )
