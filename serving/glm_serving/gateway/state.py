"""`/state`: what the operator polls once a second. The shape is a contract; keys are only added."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from glm_serving.gateway.holding import Bounds, HoldQueue

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool
    from glm_serving.gateway.upstreams import Replica

VERSION = 1


class TierState(enum.StrEnum):
    """What a request that comes now would meet."""

    SERVING = "Serving"
    """A replica takes it at once."""
    RESTING = "Resting"
    """Every replica rests from a failure: it waits for the next try."""
    ASLEEP = "Asleep"
    """There is no replica: it waits for one."""
    LEAVING = "Leaving"
    """The tier left the configuration and finishes what it runs."""


class ReplicaReport(msgspec.Struct, rename="camel"):
    """One replica. One that left stays, not routable, until nothing is in flight."""

    address: str
    in_flight: int
    routable: bool
    resting: bool = False
    """It failed and is not tried again yet."""


class HeldReport(msgspec.Struct, rename="camel"):
    """The work that waits for one tier, and how long it still will; null where nobody knows."""

    bytes: int
    tokens: int
    images: int
    estimate_seconds: float | None


class TierReport(msgspec.Struct, rename="camel"):
    """One tier. `arrivals` and the counts of tokens only grow, and restart with the process."""

    arrivals: int
    held: int
    oldest_held_seconds: float
    in_flight: int
    replicas: dict[str, ReplicaReport]
    state: TierState
    arrived_tokens: int
    """Of the prompts that arrived, estimated; images included."""
    arrived_image_tokens: int
    completion_tokens: int
    """Of the answers so far."""
    held_work: HeldReport
    expected: int = 0
    """Requests that were told to come again and are not back yet, or that another tier served
    because this one has no replica: it is wanted for them."""


class LimitsReport(msgspec.Struct, rename="camel"):
    """What this process bounds; the numbers of requests and bytes held are for each tier."""

    max_body_bytes: int
    max_in_flight_bytes: int
    max_held_requests: int
    max_held_bytes: int


class KeysReport(msgspec.Struct, rename="camel"):
    """The API keys of clients."""

    known: int
    gateways: int
    """Ready gateways that divide the limits of each key."""
    locked: str
    """Why nobody is let in: keys are asked for and could not be read. Empty: clients are."""


class Report(msgspec.Struct, rename="camel"):
    """The whole answer. A tier that left the configuration stays until nothing is in flight."""

    version: int
    pod: str
    generation: int
    uptime_seconds: float
    tiers: dict[str, TierReport]
    draining: bool
    """The process is stopping."""
    connections: int
    body_bytes: int
    """Of request bodies in memory."""
    limits: LimitsReport
    api_keys: KeysReport


def report_of(gateway: Gateway) -> Report:
    """What the gateway is and does now."""
    return Report(
        version=VERSION,
        pod=gateway.pod,
        generation=gateway.config.generation,
        uptime_seconds=round(gateway.uptime_seconds, 3),
        tiers={pool.tier.name: _tier_report(gateway, pool) for pool in gateway.pools},
        draining=gateway.draining,
        connections=gateway.connections,
        body_bytes=gateway.body_bytes,
        limits=_limits_report(gateway),
        api_keys=KeysReport(gateway.guard.known, gateway.guard.gateways, gateway.guard.locked),
    )


def _limits_report(gateway: Gateway) -> LimitsReport:
    limits = gateway.config.limits
    bounds = Bounds.of(limits)
    return LimitsReport(
        max_body_bytes=limits.max_body_bytes,
        max_in_flight_bytes=limits.max_in_flight_bytes,
        max_held_requests=bounds.requests,
        max_held_bytes=bounds.bytes,
    )


def _tier_report(gateway: Gateway, pool: Pool) -> TierReport:
    tier, queue, now = pool.tier, pool.queue, gateway.clock()
    return TierReport(
        arrivals=tier.arrivals,
        held=len(queue),
        oldest_held_seconds=round(queue.oldest_seconds(), 3),
        in_flight=tier.in_flight,
        replicas={one.name: _replica_report(one, now) for one in tier.replicas.values()},
        state=_state_of(pool, now),
        arrived_tokens=tier.arrived_tokens,
        arrived_image_tokens=tier.arrived_image_tokens,
        completion_tokens=round(gateway.metrics.tokens.sum((tier.name, "completion"))),
        held_work=_held_report(queue),
        expected=queue.places.expected(),
    )


def _state_of(pool: Pool, now: float) -> TierState:
    if pool.retired:
        return TierState.LEAVING
    if pool.tier.asleep:
        return TierState.ASLEEP
    return TierState.SERVING if pool.tier.serving(now) else TierState.RESTING


def _held_report(queue: HoldQueue) -> HeldReport:
    work, estimate = queue.work, queue.start.estimate_seconds()
    rounded = None if estimate is None else round(estimate, 1)
    return HeldReport(work.bytes, work.tokens, work.images, rounded)


def _replica_report(replica: Replica, now: float) -> ReplicaReport:
    resting = replica.routable and not replica.usable(now)
    return ReplicaReport(str(replica.address), replica.in_flight, replica.routable, resting)
