"""Time limits of connections and the budgets that bound memory and repetition."""

from __future__ import annotations

from dataclasses import dataclass

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_PIPELINED_BYTES = 64 * 1024
"""Bytes a client may send ahead while its request runs; with more, that answer is the last."""
READ_BYTES = 256 * 1024
"""Read from a connection at once."""
MAX_FRAMING_BYTES = 64 * 1024
"""Chunk sizes, extensions and trailers that may come without a byte of content in between."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Unsent bytes per client above which the replica's stream is paused."""
MAX_SENDS = 8
"""How often one request is sent to replicas that fail before their first byte."""
MAX_DEATHS = 2
"""Replicas lost while holding one fully sent request; then it is not sent a third time."""
MAX_TIMEOUTS = 2
"""Replicas that answered nobody while one request waited; then it waits for no third."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Time limits in seconds. Defaults suit production; tests shorten them."""

    header: float = 10.0
    """From the first byte of a request to the end of its head."""
    body_grace: float = 30.0
    """How far a body may fall behind the minimum upload rate."""
    upload_bytes_per_second: float = 16384.0
    """The minimum upload rate."""
    keep_alive: float = 120.0
    """Idle client connections are closed after this."""
    write_stall: float = 120.0
    """A client that reads nothing for this long while bytes wait is cut off."""
    linger: float = 2.0
    """How long what a client still sends is dropped so that its last answer is received."""
    silence: float = 20.0
    """For so long a held request is answered nothing: then an error can still be one."""
    comment: float = 10.0
    """Between the comments in a stream that was opened while it is held."""
    connect: float = 5.0
    count: float = 10.0
    """How long an engine may take to count tokens before the gateway estimates them."""
    upstream_idle: float = 4.0
    """Below the 5 s after which vLLM closes idle connections (uvicorn's default)."""
    back_off: float = 0.25
    """First pause before a failed replica is tried again; doubles up to `max_back_off`."""
    max_back_off: float = 5.0
    sweep: float = 1.0
    """Resolution of the limits above that are measured by the sweeper."""


class ByteBudget:
    """Bytes of request bodies that may be in memory at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    def holds(self, count: int) -> bool:
        """Whether `count` more bytes could be reserved."""
        return self.used + count <= self.limit

    def take(self, count: int) -> bool:
        """Reserve `count` bytes; False when the budget does not hold them."""
        if not self.holds(count):
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Return `count` reserved bytes."""
        self.used -= count


class RetryBudget:
    """How many fully sent requests may be sent again: a share of the traffic, with a reserve.

    Keeps a failing fleet from being asked for the same work several times over.
    """

    SHARE = 0.2
    RESERVE = 256.0

    def __init__(self) -> None:
        self._tokens = self.RESERVE

    def earn(self) -> None:
        """Count one new request."""
        self._tokens = min(self.RESERVE, self._tokens + self.SHARE)

    def spend(self) -> bool:
        """Take one resend; False when the budget is spent."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
