"""How long one request may take: until its first token, between two, and in all."""

from __future__ import annotations

from glm_serving.gateway.config import Limits
from glm_serving.gateway.reasons import (
    FIRST_TOKEN_TIMEOUT,
    IDLE_TIMEOUT,
    TOTAL_TIMEOUT,
    ErrorReason,
)


class Stopwatch:
    """The times of one request, in seconds of the event loop's clock.

    It is looked at about once a second, so that a chunk of a stream costs nothing.
    """

    __slots__ = ("_began", "_bytes", "moved")

    def __init__(self, now: float) -> None:
        self._began = now
        self._bytes = -1
        self.moved = now
        """When it was sent, or seen to make progress."""

    def sent(self, now: float) -> None:
        """The request went out to a replica."""
        self.moved = now

    def waited_too_long(self, now: float, limits: Limits, streamed: bool) -> ErrorReason | None:
        """The limit that a request without a byte of its answer is over.

        What is not streamed comes all at once, so its first byte says nothing of the first token.
        """
        if streamed and now - self.moved > limits.first_token_timeout_seconds:
            return FIRST_TOKEN_TIMEOUT
        return self.total(now, limits)

    def paused_too_long(
        self, now: float, limits: Limits, bytes_sent: int, stalled: bool
    ) -> ErrorReason | None:
        """The limit that a running answer is over. While `stalled` it waits for its client."""
        if stalled or bytes_sent != self._bytes:
            self._bytes, self.moved = bytes_sent, now
        elif now - self.moved > limits.idle_timeout_seconds:
            return IDLE_TIMEOUT
        return self.total(now, limits)

    def total(self, now: float, limits: Limits) -> ErrorReason | None:
        """The limit of the whole, if the request is over it."""
        return TOTAL_TIMEOUT if now - self._began > limits.total_timeout_seconds else None
