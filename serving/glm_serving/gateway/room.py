"""How much a replica takes of what waits: little at first, more as it answers and as time passes.

An engine that has just started compiles and fills its caches with its first requests, and one that
gets everything at once leaves nothing for the replica that is ready a second later.
"""

from __future__ import annotations

import math

FIRST_REQUESTS = 8
"""A replica that becomes ready while requests wait begins with so many."""
DOUBLING_SECONDS = 2.0
"""Twice as many after each such time, because whole answers may take minutes."""
FULL_REQUESTS = 256
"""More an engine does not run at once (vLLM's own --max-num-seqs): they would wait there, where no
other replica can take them."""
_MOST_DOUBLINGS = 8.0


class Room:
    """The room of one replica. Times are seconds of the event loop's clock."""

    __slots__ = ("_answers", "_base", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._base = 0
        self._answers = 0

    def start(self, now: float, in_flight: int) -> None:
        """The replica becomes ready while requests wait: begin with few more than it has."""
        self._since, self._base, self._answers = now, in_flight, 0

    def answered(self) -> None:
        """An answer began: one more may follow, and one in its place."""
        self._answers += 1

    def limit(self, now: float, waiting: bool) -> float:
        """How many requests it may have in flight; without end where none wait and it is warm."""
        warm = FULL_REQUESTS if waiting else math.inf
        if self._since is None:
            return warm
        doublings = min((now - self._since) / DOUBLING_SECONDS, _MOST_DOUBLINGS)
        times = math.exp2(doublings)
        grown = self._base + math.floor((FIRST_REQUESTS + self._answers) * times)
        if grown < FULL_REQUESTS:
            return grown
        self._since = None
        return warm
