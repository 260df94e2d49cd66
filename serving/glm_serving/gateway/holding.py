"""Requests that wait for a replica: bounded in number and bytes, released in order."""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from glm_serving.gateway.coldstart import ColdStart
from glm_serving.gateway.config import Limits
from glm_serving.gateway.places import Places

KEY_SHARE = 2
"""Where there are several keys, one fills at most this part of a queue: a half."""
TIER_SHARE = 4
"""One queue keeps at most this part of `maxInFlightBytes`, so that three leave room to serve."""


@dataclass(frozen=True, slots=True)
class Weight:
    """What held requests take of the queue, and what work they bring."""

    requests: int = 0
    bytes: int = 0
    tokens: int = 0
    """Estimated tokens of the prompts."""
    images: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(
            self.requests + other.requests,
            self.bytes + other.bytes,
            self.tokens + other.tokens,
            self.images + other.images,
        )

    def __sub__(self, other: Weight) -> Weight:
        return self + Weight(-other.requests, -other.bytes, -other.tokens, -other.images)


class Waiter(Protocol):
    """A held request."""

    @property
    def key(self) -> str:
        """Name of the client's key; empty without one."""

    @property
    def weight(self) -> Weight:
        """What it takes of the queue."""

    def released(self) -> None:
        """A replica may be ready: choose again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one queue holds at most, in this process."""

    requests: int = 0
    bytes: int = 0
    several_keys: bool = False
    """Whether more than one client key is configured."""

    @classmethod
    def of(cls, limits: Limits, several_keys: bool = False) -> Bounds:
        """The bounds of each queue in a configuration."""
        room = limits.max_in_flight_bytes // TIER_SHARE
        return cls(limits.max_held_requests, room, several_keys)


class HoldQueue:
    """The held requests of one tier. Times are seconds of the event loop's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._serial = itertools.count()
        self._order: list[tuple[float, int, Waiter]] = []
        """Since when, a serial number, who; the oldest first."""
        self._places: dict[Waiter, tuple[float, int, Waiter]] = {}
        self._of_key: defaultdict[str, Weight] = defaultdict(Weight)
        self.work = Weight()
        """Everything that waits, in sum."""
        self.bounds = Bounds()
        self.start = ColdStart(clock)
        self.places = Places(clock)

    def __len__(self) -> int:
        return len(self._order)

    def full_for(self, waiter: Waiter) -> str:
        """Why one more request may not wait, or nothing."""
        full = self._full_for("the gateway holds", self.work, waiter, 1)
        if not full and self.bounds.several_keys and waiter.key:
            own = self._of_key.get(waiter.key, Weight())
            full = self._full_for(f"the key {waiter.key} holds", own, waiter, KEY_SHARE)
        return full

    def _full_for(self, who: str, held: Weight, waiter: Waiter, share: int) -> str:
        requests, room = self.bounds.requests // share, self.bounds.bytes // share
        if held.requests >= requests:
            return f"{who} {held.requests} of at most {requests} requests"
        if held.bytes + waiter.weight.bytes > room:
            return f"{who} {held.bytes} of at most {room} bytes"
        return ""

    def add(self, waiter: Waiter, since: float) -> None:
        """Hold a request that began to wait at `since`; one that comes back keeps its age."""
        place = (since, next(self._serial), waiter)
        self._places[waiter] = place
        bisect.insort(self._order, place)
        self.work += waiter.weight
        self._of_key[waiter.key] += waiter.weight

    def remove(self, waiter: Waiter) -> None:
        """Drop a request that no longer waits."""
        place = self._places.pop(waiter, None)
        if place is None:
            return
        del self._order[bisect.bisect_left(self._order, place)]
        self.work -= waiter.weight
        self._of_key[waiter.key] -= waiter.weight
        if not self._of_key[waiter.key].requests:
            del self._of_key[waiter.key]
        if not self._order:
            self.start.left()

    def oldest_seconds(self) -> float:
        """How long the oldest request has waited."""
        return self._clock() - self._order[0][0] if self._order else 0.0

    def release(self, has_room: Callable[[], bool]) -> None:
        """Let requests choose again, the oldest first, while a replica has room for one more."""
        for _ in range(len(self)):
            if not self._order or not has_room():
                return
            waiter = self._order[0][2]
            self.remove(waiter)
            waiter.released()
