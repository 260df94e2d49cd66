"""`/state`: what the operator polls once a second. The shape is a contract; keys are only added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool

VERSION = 1


class ReplicaReport(msgspec.Struct, rename="camel"):
    """One replica. One that left stays, not routable, until nothing is in flight."""

    address: str
    in_flight: int
    routable: bool


class TierReport(msgspec.Struct, rename="camel"):
    """One tier. `arrivals` only grows, and restarts with the process."""

    arrivals: int
    held: int
    oldest_held_seconds: float
    in_flight: int
    replicas: dict[str, ReplicaReport]


class Report(msgspec.Struct, rename="camel"):
    """The whole answer. A tier that left the configuration stays until nothing is in flight."""

    version: int
    pod: str
    generation: int
    uptime_seconds: float
    tiers: dict[str, TierReport]


def report_of(gateway: Gateway) -> Report:
    """What the gateway is and does now."""
    return Report(
        version=VERSION,
        pod=gateway.pod,
        generation=gateway.config.generation,
        uptime_seconds=round(gateway.uptime_seconds, 3),
        tiers={pool.tier.name: _tier_report(pool) for pool in gateway.pools},
    )


def _tier_report(pool: Pool) -> TierReport:
    tier, queue = pool.tier, pool.queue
    return TierReport(
        arrivals=tier.arrivals,
        held=len(queue),
        oldest_held_seconds=round(queue.oldest_seconds(), 3),
        in_flight=tier.in_flight,
        replicas={
            replica.name: ReplicaReport(str(replica.address), replica.in_flight, replica.routable)
            for replica in tier.replicas.values()
        },
    )
