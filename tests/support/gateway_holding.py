"""Gateways whose requests wait: short limits, what is held, what was learnt of starts."""

from __future__ import annotations

import msgspec

from gateway_fakes import Running, config, eventually
from glm_serving.gateway.config import Config


def limited(held: int = 512, timeout: float = 300) -> Config:
    base = config()
    tiers = {
        name: msgspec.structs.replace(tier, hold_timeout_seconds=timeout)
        for name, tier in base.tiers.items()
    }
    limits = msgspec.structs.replace(base.limits, max_held_requests=held)
    return msgspec.structs.replace(base, tiers=tiers, limits=limits)


async def held(gateway: Running, count: int) -> None:
    await eventually(lambda: gateway.gateway.held == count, f"{count} requests are held")


def learnt(gateway: Running, seconds: float) -> None:
    """Let the gateway have seen flash start in so many seconds."""
    start, clock = gateway.gateway.pools["flash"].queue.start, gateway.gateway.clock
    ages = iter((clock(), clock() + seconds))
    start._clock = lambda: next(ages)
    start.asked()
    start.served()
    start._clock = clock
