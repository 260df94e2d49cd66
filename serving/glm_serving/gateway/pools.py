"""The tiers of a gateway, each with its requests that wait, and where their replicas come from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from glm_serving.gateway.bodies import Body
from glm_serving.gateway.breaker import Random
from glm_serving.gateway.config import Address, TierConfig, address_of
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.holding import Bounds, HoldQueue
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.limits import Timings
from glm_serving.gateway.places import identity, is_retry
from glm_serving.gateway.upstreams import Replica, Tier

log = logging.getLogger("glm_gateway")

LOOK_SECONDS = 0.25
"""How often is looked for room while requests wait and a replica serves."""


@dataclass(slots=True)
class Pool:
    """A tier with the requests that wait for it and its part of the configuration."""

    tier: Tier
    queue: HoldQueue
    hold_timeout_seconds: float = 0.0
    service: str = ""
    static: Mapping[str, Address] = field(default_factory=dict)
    watched: Mapping[str, Address] = field(default_factory=dict)
    """Ready endpoints of the service."""
    retired: bool = False
    """No longer configured: takes no request, and goes with the last one that runs."""
    cold: bool = False
    """Requests wait because no replica serves: the first that does begins slowly."""
    release_timer: asyncio.Handle | None = None
    """The next look whether a replica has room for what waits."""

    def came(self, head: RequestHead, body: Body, facts: Facts) -> float | None:
        """Count a request, unless it waited before; then returns since when it waits."""
        if is_retry(head):
            since = self.queue.places.take(identity(head.key.name, body))
            if since is not None:
                return since
        self.tier.arrived(facts)
        return None

    def passed_by(self, head: RequestHead, body: Body) -> None:
        """Another tier serves a request of this one: it is wanted, though nobody waits for it."""
        if self.tier.asleep:
            self.queue.start.passed_by()
            self.queue.places.want(identity(head.key.name, body))

    def choose(self, now: float, tried: frozenset[str], released: bool) -> Replica | None:
        """A replica for one request: what waits goes first, and what it `released` in order."""
        if self.queue and not released:
            return None
        return self.tier.choose(now, tried, waiting=released)


class Pools:
    """Every tier by name. One that left the configuration stays while a request runs there."""

    def __init__(self, clock: Callable[[], float], timings: Timings, random: Random) -> None:
        self._clock = clock
        self._timings = timings
        self._random = random
        self._pools: dict[str, Pool] = {}

    def __getitem__(self, tier: str) -> Pool:
        return self._pools[tier]

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    # --- configuration and endpoints

    def configure(self, tiers: Mapping[str, TierConfig], bounds: Bounds) -> list[Pool]:
        """Take over the tiers of a configuration; returns the pools that it retired."""
        for name, tier_config in tiers.items():
            self._configure(name, tier_config, bounds)
        retired = [self._pools[name] for name in self._pools.keys() - tiers.keys()]
        for pool in retired:
            pool.retired = True
            pool.service, pool.static, pool.watched = "", {}, {}
            pool.tier.set_endpoints({})
        return retired

    def _configure(self, name: str, tier_config: TierConfig, bounds: Bounds) -> None:
        pool = self._pools.get(name)
        if pool is None:
            tier = Tier(name, self._timings, self._random)
            pool = self._pools[name] = Pool(tier, HoldQueue(self._clock))
        if pool.service != tier_config.service:
            pool.watched = {}
        pool.retired = False
        pool.service = tier_config.service
        pool.hold_timeout_seconds = tier_config.hold_timeout_seconds
        pool.queue.bounds = bounds
        pool.static = {e.name: address_of(e.url) for e in tier_config.endpoints}
        self._refresh(pool)

    def drop_if_over(self, tier: str) -> None:
        """Forget a tier that is no longer configured, once nothing runs there."""
        pool = self._pools.get(tier)
        # Its held requests are refused, so nothing else can still belong to it.
        if pool is not None and pool.retired and pool.tier.in_flight == 0:
            del self._pools[tier]

    def set_service_endpoints(self, endpoints: Mapping[str, Mapping[str, Address]]) -> None:
        """Take over the ready endpoints of every watched service, service -> name -> address."""
        for pool in self:
            pool.watched = endpoints.get(pool.service, {}) if pool.service else {}
            self._refresh(pool)

    def _refresh(self, pool: Pool) -> None:
        came = pool.tier.set_endpoints({**pool.static, **pool.watched})
        if pool.queue:
            for replica in came:
                replica.room.start(self._clock(), replica.in_flight)
        self._release(pool)

    # --- replicas that come, go and fail

    def release_soon(self, pool: Pool, seconds: float = 0.0) -> None:
        """Let requests that wait have the room that there is, but not in the midst of a failure."""
        if not pool.queue:
            return
        if pool.release_timer is not None:
            pool.release_timer.cancel()
        loop = asyncio.get_running_loop()
        pool.release_timer = loop.call_later(seconds, self._released, pool)

    def answered(self, pool: Pool, replica: Replica) -> None:
        """An answer began: a replica that begins slowly takes more of what waits."""
        if pool.queue:
            replica.room.answered()
            self.release_soon(pool)

    def _released(self, pool: Pool) -> None:
        pool.release_timer = None
        self._release(pool)

    def _release(self, pool: Pool) -> None:
        now = self._clock()
        if not pool.tier.serving(now):
            return
        pool.queue.start.served()
        if pool.cold:
            pool.cold = False
            for replica in pool.tier.replicas.values():
                replica.room.start(now, replica.in_flight)
        pool.queue.release(lambda: pool.tier.has_room(now))
        # Room grows with time alone, too.
        self.release_soon(pool, LOOK_SECONDS)

    def kick(self, replica: Replica) -> None:
        """A replica may take requests again: let held ones choose."""
        for pool in tuple(self):
            if pool.tier.replicas.get(replica.name) is replica:
                self._release(pool)

    def replica_failed(self, replica: Replica, hung: bool = False) -> None:
        """Let a replica rest and look again when its rest is over."""
        pause = replica.failed(self._clock(), hung)
        log.debug("replica %s failed and rests for %.2f s", replica.name, pause)
        asyncio.get_running_loop().call_later(pause + 0.001, self.kick, replica)

    def close_idle(self) -> None:
        """Close the idle connections to every replica."""
        for pool in self:
            for replica in pool.tier.replicas.values():
                replica.close_idle()

    def expire_idle(self) -> None:
        """Close the connections that engines are about to close."""
        now = self._clock()
        for pool in self:
            for replica in tuple(pool.tier.replicas.values()):
                replica.expire_idle(now)

    # --- what is seen

    def serving(self) -> frozenset[str]:
        """The tiers with a replica that takes a request now."""
        now = self._clock()
        return frozenset(pool.tier.name for pool in self if pool.tier.serving(now))

    @property
    def held(self) -> int:
        """Requests that wait for a replica."""
        return sum(len(pool.queue) for pool in self)
