"""The gauges of the gateway: read from what is there when somebody asks, never kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from glm_serving.gateway.breaker import BreakerState
from glm_serving.gateway.metrics import Labels

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool

Samples = Iterable[tuple[Labels, float]]


def add_gauges(gateway: Gateway) -> None:
    """Add every gauge to the gateway's metrics."""
    _of_tiers(gateway)
    _of_breakers(gateway)
    _of_the_process(gateway)


def _of_tiers(gateway: Gateway) -> None:
    def add(name: str, text: str, value: Callable[[Pool], float]) -> None:
        def read() -> Samples:
            return [((pool.tier.name,), value(pool)) for pool in gateway.pools]

        gateway.metrics.gauge(f"glm_gateway_{name}", text, ("tier",), read)

    add("held", "Requests that wait for a replica.", lambda pool: len(pool.queue))
    add("held_tokens", "Tokens of their prompts, estimated.", lambda pool: pool.queue.work.tokens)
    add(
        "oldest_held_seconds",
        "How long the oldest of them has waited.",
        lambda pool: pool.queue.oldest_seconds(),
    )
    add("in_flight", "Requests at replicas.", lambda pool: pool.tier.in_flight)
    add("routable_replicas", "Replicas in routing.", _routable)


def _of_breakers(gateway: Gateway) -> None:
    def read() -> Samples:
        now = gateway.clock()
        for pool in gateway.pools:
            states = Counter(replica.breaker.state(now) for replica in pool.tier.replicas.values())
            yield from (((pool.tier.name, state), states[state]) for state in BreakerState)

    text = "Replicas by the state of their breaker."
    gateway.metrics.gauge("glm_gateway_breakers", text, ("tier", "state"), read)


def _routable(pool: Pool) -> int:
    return sum(replica.routable for replica in pool.tier.replicas.values())


def _of_the_process(gateway: Gateway) -> None:
    def add(name: str, text: str, value: Callable[[], float]) -> None:
        gateway.metrics.gauge(f"glm_gateway_{name}", text, (), lambda: [((), value())])

    add("connections", "Open client connections.", lambda: gateway.connections)
    add("body_bytes", "Bytes of bodies in memory.", lambda: gateway.body_bytes)
    add("config_generation", "Generation of the configuration.", lambda: gateway.config.generation)
