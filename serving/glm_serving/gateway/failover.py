"""What becomes of a request whose replica failed before its first byte: pure rules."""

from __future__ import annotations

import enum

from glm_serving.gateway.limits import MAX_DEATHS, MAX_SENDS, MAX_TIMEOUTS

ENGINE_DEAD = b"EngineCore encountered an issue"
"""What vLLM's API server answers for requests whose engine died, just before it ends itself.

Source: `EngineDeadError` in vllm/v1/engine/exceptions.py (0.32): status 500, or the first event of
a stream whose status 200 was sent before.
"""
_SEARCHED = 1024


class Cause(enum.StrEnum):
    """How a replica failed; a label of `glm_gateway_retries_total`."""

    CONNECT = "connect"
    """It took no connection, so it has nothing of the request."""
    LOST = "lost"
    """It went while it held the request."""
    UNSENT = "unsent"
    """It went while it still received the request, so it has not worked on it."""
    STATUS = "status"
    """It answered 502 or 503."""
    TIMEOUT = "timeout"
    """It answered nobody for too long."""
    STALE = "stale"
    """A kept connection had ended; it may not have failed at all."""


class Verdict(enum.Enum):
    """What to do with the request."""

    AGAIN = enum.auto()
    KILLS_ENGINE = enum.auto()
    """Replicas die of it, as far as anybody can tell."""
    SPENT = enum.auto()
    """It was tried often enough."""


class Tries:
    """What one request has been through."""

    __slots__ = ("deaths", "sends", "timeouts", "tried")

    def __init__(self) -> None:
        self.sends = 0
        self.deaths = 0
        self.timeouts = 0
        self.tried: frozenset[str] = frozenset()
        """Names of replicas that failed it."""

    def failed(self, replica: str, cause: Cause, leaving: bool) -> Verdict:
        """Count a failure. `leaving`: the replica was on its way out, so nothing killed it."""
        self.tried |= {replica}
        self.deaths += cause is Cause.LOST and not leaving
        self.timeouts += cause is Cause.TIMEOUT
        if self.deaths >= MAX_DEATHS:
            return Verdict.KILLS_ENGINE
        if self.sends >= MAX_SENDS or self.timeouts >= MAX_TIMEOUTS:
            return Verdict.SPENT
        return Verdict.AGAIN


def engine_died(status: int, streamed: bool, data: bytes) -> bool:
    """Whether an answer that begins with `data` only says that the engine behind it is dead.

    Without data it is over: a stream that ends before its first event is none.
    """
    if status != 500 and not streamed:
        return False
    if streamed and not data:
        return True
    return b'"error"' in data[:_SEARCHED] and ENGINE_DEAD in data[:_SEARCHED]
