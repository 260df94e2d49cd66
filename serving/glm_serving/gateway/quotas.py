"""What one API key has running and has spent in the last minute, at this gateway.

Gateways share no memory: each enforces a key's limits divided by the number of ready gateways.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.keys import Key
from glm_serving.gateway.reasons import (
    IN_FLIGHT_LIMIT_REACHED,
    REQUEST_LIMIT_REACHED,
    REQUEST_OVER_TOKEN_LIMIT,
    TOKEN_LIMIT_REACHED,
    ErrorReason,
)

MINUTE = 60.0
UNKNOWN_OUTPUT_TOKENS = 256
"""Charged for the answer until it is there, where the client sets no `max_tokens`."""


@dataclass(slots=True)
class Slot:
    """What was charged within one second."""

    ends: float
    """When it counts no longer; seconds of the event loop's clock."""
    amount: int = 0


class Window:
    """The sum of what was charged within the last minute, in steps of a second."""

    __slots__ = ("_closed_until", "_slots", "_sum")

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self._sum = 0
        self._closed_until = 0.0

    def used(self, now: float) -> int:
        """What counts now."""
        slots = self._slots
        while slots and slots[0].ends <= now:
            self._sum -= slots.popleft().amount
        return self._sum

    def wait_seconds(self, amount: int, share: float, now: float) -> float:
        """How long until `amount` has room in a share per minute; 0 when it has now.

        More than the share has room in an empty window: see `charge`.
        """
        excess = self.used(now) + amount - share
        at = now
        if excess > 0 and self._sum > 0:
            for slot in self._slots:
                at, excess = slot.ends, excess - slot.amount
                if excess <= 0:
                    break
        return max(at, self._closed_until) - now

    def charge(self, amount: int, share: float, now: float) -> Slot:
        """Count an amount from now on; one above the share closes the window until it is paid."""
        ends = math.floor(now) + 1 + MINUTE
        if not self._slots or self._slots[-1].ends < ends:
            self._slots.append(Slot(ends))
        slot = self._slots[-1]
        slot.amount += amount
        self._sum += amount
        self._close(amount, share, now)
        return slot

    def correct(self, slot: Slot, charged: int, actual: int, share: float, now: float) -> None:
        """Replace what was charged into a slot by what it turned out to be."""
        if actual > charged:
            _ = self.charge(actual - charged, share, now)
            return
        if slot.ends > now:
            slot.amount -= charged - actual
            self._sum -= charged - actual
        if charged > share:
            self._closed_until = 0.0
            self._close(actual, share, slot.ends - MINUTE)

    def _close(self, amount: int, share: float, since: float) -> None:
        if amount > share:
            self._closed_until = max(self._closed_until, since + MINUTE * amount / share)


class Quota:
    """The use of one key."""

    __slots__ = ("in_flight", "requests", "tokens")

    def __init__(self) -> None:
        self.in_flight = 0
        self.requests = Window()
        self.tokens = Window()

    def charge(self, key: Key, facts: Facts, gateways: int, now: float) -> Charge:
        """Let a request in and count it.

        Raises:
            Refusal: a limit of the key is reached.
        """
        tokens = cost(facts)
        self._check(key, tokens, gateways, now)
        self.in_flight += 1
        if key.requests_per_minute is not None:
            _ = self.requests.charge(1, key.requests_per_minute / gateways, now)
        if key.tokens_per_minute is None:
            return Charge(self)
        share = key.tokens_per_minute / gateways
        return Charge(self, self.tokens.charge(tokens, share, now), tokens, share)

    def _check(self, key: Key, tokens: int, gateways: int, now: float) -> None:
        most = key.max_in_flight
        if most is not None and self.in_flight >= max(1, most // gateways):
            raise Refusal(
                IN_FLIGHT_LIMIT_REACHED,
                f"the key {key.name} may run {most} requests at once{_shared(gateways)}",
            )
        most = key.requests_per_minute
        if most is not None:
            wait = self.requests.wait_seconds(1, most / gateways, now)
            if wait:
                raise _spent(REQUEST_LIMIT_REACHED, key, f"{most} requests", gateways, wait)
        most = key.tokens_per_minute
        if most is not None:
            if tokens > most:
                raise _too_large(key, tokens, most)
            wait = self.tokens.wait_seconds(tokens, most / gateways, now)
            if wait:
                raise _spent(TOKEN_LIMIT_REACHED, key, f"{most} tokens", gateways, wait)


class Charge:
    """What one request was let in for; settled once, when it is over."""

    __slots__ = ("_quota", "_share", "_slot", "_tokens")

    def __init__(
        self, quota: Quota, slot: Slot | None = None, tokens: int = 0, share: float = 0.0
    ) -> None:
        self._quota = quota
        self._slot = slot
        self._tokens = tokens
        self._share = share

    def settle(self, tokens: int, now: float) -> None:
        """The request is over and took so many tokens."""
        self._quota.in_flight -= 1
        if self._slot is not None:
            self._quota.tokens.correct(self._slot, self._tokens, tokens, self._share, now)


def cost(facts: Facts) -> int:
    """Tokens that a request may take: its prompt, and the answer that it asks for."""
    return facts.prompt_tokens + (facts.max_tokens or UNKNOWN_OUTPUT_TOKENS)


def _shared(gateways: int) -> str:
    return f", divided by {gateways} gateways" if gateways > 1 else ""


def _spent(reason: ErrorReason, key: Key, limit: str, gateways: int, wait: float) -> Refusal:
    return Refusal(
        reason,
        f"the key {key.name} has {limit} per minute{_shared(gateways)}: there is room in"
        f" {math.ceil(wait)} s",
        wait_seconds=wait,
    )


def _too_large(key: Key, tokens: int, most: int) -> Refusal:
    return Refusal(
        REQUEST_OVER_TOKEN_LIMIT,
        f"the request may take {tokens} tokens (prompt and max_tokens), and the key {key.name} has"
        f" {most} per minute: lower max_tokens or shorten the prompt",
    )
