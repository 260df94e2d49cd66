"""Tiers and their replicas: what is ready, what is in flight, which replica is next."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from glm_serving.gateway.breaker import Breaker, Random
from glm_serving.gateway.config import Address
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.limits import Timings
from glm_serving.gateway.room import Room

if TYPE_CHECKING:
    from glm_serving.gateway.upstream import UpstreamConnection


class Replica:
    """One engine. Times are of the event loop's clock."""

    def __init__(self, name: str, address: Address, timings: Timings, random: Random) -> None:
        self.name = name
        self.address = address
        self.routable = True
        self.in_flight = 0
        self.idle: list[UpstreamConnection] = []
        self.picked = 0
        """Sequence number of its last request, so that equals take turns."""
        self.room = Room()
        self.breaker = Breaker(timings.back_off, timings.max_back_off, random)
        self.answered_at = 0.0
        """When it last began an answer."""
        self._idle_seconds = timings.upstream_idle

    def usable(self, now: float) -> bool:
        """Whether it takes a request now: routable, and not resting from a failure."""
        return self.routable and self.breaker.allows(now)

    def takes(self, now: float, waiting: bool) -> bool:
        """Whether it takes one more request; `waiting`: others of its tier wait."""
        return self.usable(now) and self.in_flight < self.room.limit(now, waiting)

    def begin(self) -> bool:
        """Count a request; whether it is the one that finds out if the replica is well again."""
        self.in_flight += 1
        return self.breaker.begin()

    def end(self) -> None:
        """Uncount a request."""
        self.in_flight -= 1

    def answered(self, now: float) -> bool:
        """It began an answer; whether it was thought ill."""
        self.answered_at = now
        return self.breaker.answered()

    def failed(self, now: float, hung: bool = False) -> float:
        """Let it rest; returns the seconds until the next try."""
        self.close_idle()
        return self.breaker.failed(now, hung)

    def close_idle(self) -> None:
        """Close the idle connections: they may lead to an engine that is gone."""
        for connection in tuple(self.idle):
            connection.close()

    def expire_idle(self, now: float) -> None:
        """Close connections that the engine is about to close."""
        for connection in tuple(self.idle):
            if now - connection.idle_since >= self._idle_seconds:
                connection.close()


class Tier:
    """The replicas of one tier and its counters."""

    _sequence = itertools.count(1)

    def __init__(self, name: str, timings: Timings, random: Random) -> None:
        self.name = name
        self.replicas: dict[str, Replica] = {}
        self.arrivals = 0
        """Requests that chose the tier; each counts once, however often it is tried."""
        self.arrived_tokens = 0
        """Of their prompts, estimated; images included."""
        self.arrived_image_tokens = 0
        self._timings = timings
        self._random = random

    @property
    def in_flight(self) -> int:
        """Requests at replicas."""
        return sum(replica.in_flight for replica in self.replicas.values())

    def arrived(self, facts: Facts) -> None:
        """Count a request and the work that it brings."""
        self.arrivals += 1
        self.arrived_tokens += facts.prompt_tokens
        self.arrived_image_tokens += facts.image_tokens

    def set_endpoints(self, endpoints: Mapping[str, Address]) -> list[Replica]:
        """Take over the ready endpoints, name -> address; returns the replicas that came.

        One that left stays, not routable, until its last request ended.
        """
        came = []
        for name, address in endpoints.items():
            replica = self.replicas.get(name)
            if replica is None or replica.address != address or not replica.routable:
                self._admit(name, address, replica)
                came.append(self.replicas[name])
        for name, replica in tuple(self.replicas.items()):
            if name not in endpoints:
                replica.routable = False
                replica.close_idle()
                self.forget(replica)
        return came

    def _admit(self, name: str, address: Address, old: Replica | None) -> None:
        if old is None:
            self.replicas[name] = Replica(name, address, self._timings, self._random)
            return
        # Requests in flight end on their old connections; what failed before is forgiven.
        old.close_idle()
        old.address = address
        old.routable = True
        old.breaker.answered()

    def forget(self, replica: Replica) -> None:
        """Drop a replica that left and has nothing in flight."""
        current = self.replicas.get(replica.name) is replica
        if current and not replica.routable and replica.in_flight == 0:
            del self.replicas[replica.name]

    @property
    def asleep(self) -> bool:
        """Whether there is no replica at all, not even one that rests from a failure."""
        return not any(replica.routable for replica in self.replicas.values())

    def rest_seconds(self, now: float) -> float:
        """When a replica that rests from a failure is tried again."""
        resting = [r.breaker.until - now for r in self.replicas.values() if r.routable]
        return max(0.0, min(resting, default=0.0))

    def serving(self, now: float) -> bool:
        """Whether any replica takes a request now."""
        return any(replica.usable(now) for replica in self.replicas.values())

    def has_room(self, now: float) -> bool:
        """Whether any replica takes one more of the requests that wait."""
        return any(replica.takes(now, waiting=True) for replica in self.replicas.values())

    def choose(
        self, now: float, tried: frozenset[str] = frozenset(), waiting: bool = False
    ) -> Replica | None:
        """The replica with room and the least in flight, one that was not tried if possible."""
        usable = [replica for replica in self.replicas.values() if replica.takes(now, waiting)]
        if not usable:
            return None
        fresh = [replica for replica in usable if replica.name not in tried] or usable
        best = min(fresh, key=lambda replica: (replica.in_flight, replica.picked))
        best.picked = next(self._sequence)
        return best
