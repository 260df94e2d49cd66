"""The waiting of one request: when it enters the queue, how long it stays, what it is told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.holding import Weight
from glm_serving.gateway.http import read_timeout_of
from glm_serving.gateway.keepalive import KeepAlive
from glm_serving.gateway.places import identity
from glm_serving.gateway.reasons import (
    HOLD_QUEUE_FULL,
    HOLD_TIMEOUT,
    TIER_REMOVED,
    TIER_UNAVAILABLE,
    WAIT_TOO_LONG,
    ErrorReason,
)

if TYPE_CHECKING:
    from glm_serving.gateway.exchange import Exchange
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool

READ_TIMEOUT_SHARE = 0.9
"""The answer "not yet" must reach a client before its own patience ends."""


class Wait:
    """Counts in the queue of its tier from `enter` until it is released or leaves.

    A request whose replica failed may enter again: it keeps its age, and so its place.
    """

    def __init__(
        self, exchange: Exchange, pool: Pool, gateway: Gateway, since: float | None
    ) -> None:
        self._exchange = exchange
        self._pool = pool
        self._clock = gateway.clock
        age = time.monotonic() - exchange.began
        self._since = self._clock() - age if since is None else since
        """When it arrived for the first time, which settles its place."""
        self._entered_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._read_timeout = read_timeout_of(exchange.head)
        facts = exchange.facts
        self._keep_alive = (
            KeepAlive(exchange, self, gateway.timings) if facts and facts.stream else None
        )
        self.key = exchange.head.key.name
        self.weight = Weight(
            requests=1,
            bytes=len(exchange.body),
            tokens=facts.prompt_tokens if facts else 0,
            images=facts.images if facts else 0,
        )
        self.seconds = 0.0
        """How long it waited, over all its stays."""
        self.entered = False
        """Whether it was ever in the queue."""

    def enter(self) -> None:
        """Begin to wait.

        Raises:
            Refusal: the queue is full, the time is over, or it would be before a replica is ready.
        """
        if self._pool.retired:
            raise Refusal(TIER_REMOVED)
        queue, remaining = self._pool.queue, self.remaining_seconds()
        if self._pool.tier.asleep:
            queue.start.asked()
        self._pool.cold |= not self._pool.tier.serving(self._clock())
        if self._exchange.decision is not None and self._exchange.decision.reject:
            raise self._refusal(TIER_UNAVAILABLE)
        if remaining <= 0:
            raise self._refusal(HOLD_TIMEOUT)
        self._check_estimate(remaining)
        # One that comes back after a failure is not asked again whether there is a place.
        if not self.entered:
            self._check_place()
        self.entered = True
        self._entered_at = self._clock()
        queue.add(self, self._since)
        self._timer = asyncio.get_running_loop().call_later(remaining, self._expired)
        if self._keep_alive is not None:
            self._keep_alive.start()

    def remaining_seconds(self) -> float:
        """How much longer it may wait: the tier's time, and what the client's patience leaves."""
        stay = self._clock() - self._entered_at if self.is_held else 0.0
        remaining = self._pool.hold_timeout_seconds - self.seconds - stay
        if self._read_timeout is None:
            return remaining
        age = time.monotonic() - self._exchange.began
        return min(remaining, READ_TIMEOUT_SHARE * self._read_timeout - age)

    def _check_estimate(self, remaining: float) -> None:
        estimate = self._pool.queue.start.estimate_seconds()
        if estimate is not None and estimate > remaining:
            raise self._refusal(
                WAIT_TOO_LONG,
                f"a replica is expected in {estimate:.0f} s and this request may wait "
                f"{remaining:.0f} s: try again then, or give the client a longer timeout",
            )

    def _check_place(self) -> None:
        full = self._pool.queue.full_for(self)
        if full:
            raise self._refusal(
                HOLD_QUEUE_FULL,
                f"{full} for {self._pool.tier.name} while no replica is ready: try again later",
            )

    def _refusal(self, reason: ErrorReason, message: str = "") -> Refusal:
        start, tier = self._pool.queue.start, self._pool.tier
        refusal = Refusal(
            reason,
            message,
            wait_seconds=start.estimate_seconds(),
            retry_seconds=start.retry_seconds()
            if tier.asleep
            else tier.rest_seconds(self._clock()),
        )
        self._keep_place(refusal.retry_after(self._exchange.dialect.max_retry_after_seconds))
        return refusal

    def _keep_place(self, told_seconds: float | None) -> None:
        request = identity(self.key, self._exchange.body)
        self._pool.queue.places.keep(request, self._since, told_seconds)

    def _expired(self) -> None:
        self._exchange.refuse(self._refusal(HOLD_TIMEOUT))

    @property
    def is_held(self) -> bool:
        """Whether it is in the queue."""
        return self._timer is not None

    def is_soon_over(self) -> bool:
        """Whether a replica is known to come in time."""
        estimate = self._pool.queue.start.estimate_seconds()
        if estimate is None:
            return self._pool.tier.serving(self._clock())
        return estimate <= self.remaining_seconds()

    def over(self) -> None:
        """The answer begins, or never comes."""
        self.leave()
        if self._keep_alive is not None:
            self._keep_alive.stop()

    def released(self) -> None:
        """A replica has room: the queue has let it go."""
        self.leave()
        self._exchange.released()

    def leave(self) -> None:
        """Stop to wait, whatever the reason."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._pool.queue.remove(self)
        self.seconds += self._clock() - self._entered_at

    def abandon(self) -> None:
        """The client left: its package may send the request again."""
        if self.is_held:
            self._keep_place(None)
        self.over()
