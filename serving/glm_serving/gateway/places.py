"""The places of requests that left the queue unserved: kept for a while, for most come again.

The openai and anthropic packages send a refused or timed-out request again. It is then neither new
demand nor the last in the queue. Until it is back, one that was told when to come counts as wanted:
a tier that sleeps must start for it, though nobody waits at the moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from glm_serving.gateway.bodies import Body
from glm_serving.gateway.http import RequestHead

MAX_PLACES = 1024
"""Beyond it the place that was left first is forgotten."""
LEFT_SECONDS = 60.0
"""How long the place is kept of a client that left by itself."""
LATE_SECONDS = 15.0
"""How much later than it was told a client may come."""
_SAMPLE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Place:
    since: float
    until: float
    told: bool


class Places:
    """The places of one tier. Times are seconds of the event loop's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[bytes, _Place] = {}

    def keep(self, request: bytes, since: float, told_seconds: float | None) -> None:
        """Keep the place of a request that waits since then.

        `told_seconds` is when it was told to come again; None: it left by itself.
        """
        told = told_seconds is not None
        seconds = LEFT_SECONDS if told_seconds is None else told_seconds + LATE_SECONDS
        self._kept.pop(request, None)
        self._kept[request] = _Place(since, self._clock() + seconds, told)
        if len(self._kept) > MAX_PLACES:
            del self._kept[next(iter(self._kept))]

    def want(self, request: bytes) -> None:
        """Count a request that another tier serves as wanted of this one, for a while."""
        self.keep(request, self._clock(), told_seconds=0.0)

    def take(self, request: bytes) -> float | None:
        """Since when a request waits that comes again; None: its place is not known any more."""
        place = self._kept.pop(request, None)
        return place.since if place is not None and self._clock() < place.until else None

    def expected(self) -> int:
        """Requests that are wanted of the tier and that nobody waits with at the moment."""
        now = self._clock()
        self._kept = {one: place for one, place in self._kept.items() if now < place.until}
        return sum(place.told for place in self._kept.values())


def is_retry(head: RequestHead) -> bool:
    """Whether the client says that it sends this request again."""
    return head.headers.get(b"x-stainless-retry-count", b"0") != b"0"


def identity(key: str, body: Body) -> bytes:
    """The same for a request and its retries: the key, the length of the body and its two ends."""
    hashed = hashlib.blake2b(b"%s\0%d\0" % (key.encode(), len(body)), digest_size=16)
    hashed.update(memoryview(body)[:_SAMPLE_BYTES])
    hashed.update(memoryview(body)[-_SAMPLE_BYTES:])
    return hashed.digest()
