"""Whether a replica that failed takes requests again: closed, open, half-open.

Only the transport and time limits count: no connection, a connection lost, 502 or 503 of an
engine that goes, no answer in time. What an engine answers to a bad request says nothing of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

Random = Callable[[], float]
"""Uniform in [0, 1)."""


class BreakerState(enum.StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    OPEN = "open"
    """Nothing, until its rest is over."""
    HALF_OPEN = "half-open"
    """One request, which finds out."""


class Breaker:
    """The breaker of one replica. Times are seconds of the event loop's clock."""

    __slots__ = (
        "_failures",
        "_first_rest",
        "_hung",
        "_longest_rest",
        "_random",
        "probing",
        "until",
    )

    def __init__(self, first_rest: float, longest_rest: float, random: Random) -> None:
        self._first_rest = first_rest
        self._longest_rest = longest_rest
        self._random = random
        self._failures = 0
        self._hung = False
        self.probing = False
        """Whether a request is finding out."""
        self.until = 0.0
        """When the rest is over."""

    def allows(self, now: float) -> bool:
        """Whether a request may go to the replica."""
        return self._failures == 0 or (now >= self.until and not self.probing)

    def state(self, now: float) -> BreakerState:
        """For people and metrics."""
        if self._failures == 0:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.until else BreakerState.HALF_OPEN

    def begin(self) -> bool:
        """A request goes to the replica; whether it is the one that finds out."""
        if self._failures:
            self.probing = True
        return self._failures > 0

    def probe_over(self) -> None:
        """The request that was to find out is over, and another may."""
        self.probing = False

    def reached(self) -> None:
        """A connection stands. A replica that hung has to answer as well."""
        if not self._hung:
            self.probing = False

    def answered(self) -> bool:
        """An answer began: the replica is well; whether it was thought ill."""
        was_ill = self._failures > 0
        self._failures = 0
        self._hung = self.probing = False
        return was_ill

    def failed(self, now: float, hung: bool = False) -> float:
        """Open, for twice as long each time, with jitter; returns the seconds of rest.

        What fails while it already rests failed of the same cause: it does not rest longer.
        """
        self.probing = False
        self._hung = self._hung or hung
        if self._failures and now < self.until:
            return self.until - now
        rest = min(self._first_rest * 2.0 ** min(self._failures, 10), self._longest_rest)
        rest *= 0.75 + 0.5 * self._random()
        self._failures += 1
        self.until = now + rest
        return rest
