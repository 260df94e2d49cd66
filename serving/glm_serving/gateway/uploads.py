"""The body of one request while it arrives: bounded in bytes, in framing and in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.http import RequestHead, RequestParser
from glm_serving.gateway.limits import MAX_FRAMING_BYTES, READ_BYTES, Timings
from glm_serving.gateway.reasons import (
    BODY_TOO_LARGE,
    INVALID_REQUEST,
    TOO_MANY_BYTES_IN_FLIGHT,
)


class Budget(Protocol):
    """The memory that all bodies share."""

    timings: Timings

    def has_room(self, count: int) -> bool:
        """Whether so many bytes could be reserved now."""

    def take_bytes(self, count: int) -> bool:
        """Reserve memory for a body."""

    def give_bytes(self, count: int) -> None:
        """Return memory of a body."""


def reserve(budget: Budget, count: int, length: int, allowed: int) -> None:
    """Reserve `count` bytes of a body that is `length` bytes long with them.

    Raises:
        Refusal: it is longer than `allowed`, or there is no memory for them now.
    """
    _check(length, allowed)
    if not budget.take_bytes(count):
        raise Refusal(TOO_MANY_BYTES_IN_FLIGHT)


def _check(length: int, allowed: int) -> None:
    if length > allowed:
        raise Refusal(
            BODY_TOO_LARGE, f"the body is over {allowed} bytes (maxBodyBytes): shorten it"
        )


class Upload:
    """Collects one body. Reserves what has arrived and no more: a length is only a promise."""

    __slots__ = (
        "_allowed",
        "_budget",
        "_clock",
        "_framing",
        "_head",
        "_parser",
        "body",
        "complete",
        "deadline",
    )

    def __init__(
        self,
        budget: Budget,
        clock: Callable[[], float],
        head: RequestHead,
        parser: RequestParser,
        allowed: int,
    ) -> None:
        """Begin to read a body of at most `allowed` bytes.

        Raises:
            Refusal: its announced length is too long, or does not fit into memory now.
        """
        self._budget = budget
        self._clock = clock
        self._head = head
        self._parser = parser
        self._allowed = allowed
        self._framing = 0
        """Bytes since the last content: chunk sizes and their extensions, trailers."""
        self.body = bytearray()
        self.complete = False
        self.deadline = clock() + budget.timings.body_grace
        """When the body is given up; each byte puts it off by its time at the minimum rate."""
        _check(head.content_length, allowed)
        if not budget.has_room(head.content_length):
            raise Refusal(TOO_MANY_BYTES_IN_FLIGHT)

    @property
    def room(self) -> int:
        """Bytes that may be read at once: never one behind a body of known length."""
        if self._head.chunked:
            return READ_BYTES
        return min(self._head.content_length - len(self.body), READ_BYTES)

    def add(self, data: bytes | memoryview) -> None:
        """Take what was read, at most `room` bytes.

        Raises:
            Refusal: it is malformed, too long, or does not fit into memory now.
        """
        if self._head.chunked:
            self._add_chunks(data)
        else:
            self._add(data)
            self.complete = len(self.body) == self._head.content_length

    def _add_chunks(self, data: bytes | memoryview) -> None:
        content = b"".join(self._parser.chunks(data)) if data else b""
        # The parser keeps a trailer until its line ends, and no budget counts it.
        self._framing = 0 if content else self._framing + len(data)
        if self._framing > MAX_FRAMING_BYTES:
            raise Refusal(
                INVALID_REQUEST,
                f"the chunked body has over {MAX_FRAMING_BYTES} bytes that are no content: "
                "send shorter chunk extensions and trailers",
            )
        self._add(content)
        self.complete = self._parser.complete

    def _add(self, content: bytes | memoryview) -> None:
        count = len(content)
        reserve(self._budget, count, len(self.body) + count, self._allowed)
        self.body += content
        # Never further away than the grace: a fast beginning earns no right to stand still.
        timings = self._budget.timings
        earned = self.deadline + count / timings.upload_bytes_per_second
        self.deadline = min(earned, self._clock() + timings.body_grace)

    def drop(self) -> None:
        """Forget what arrived and return its memory."""
        self._budget.give_bytes(len(self.body))
        self.body = bytearray()
