"""Bodies that replicas died of: refused for a while, so that a client's retries kill no more."""

from __future__ import annotations

import hashlib

from glm_serving.gateway.bodies import Body
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import REQUEST_KILLS_ENGINE

REFUSED_SECONDS = 600.0
MAX_BODIES = 1024
"""Beyond it the oldest is forgotten."""


class RefusedBodies:
    """A bounded table of hashes; a body is kept in no form that could be read.

    A request is hashed only when a refused body has its very length.
    """

    def __init__(self) -> None:
        self._until: dict[tuple[int, bytes], float] = {}
        self._lengths: frozenset[int] = frozenset()

    def add(self, body: Body, now: float) -> None:
        """Refuse a body from now on, for `REFUSED_SECONDS`."""
        key = _key(body)
        self._until.pop(key, None)
        self._until[key] = now + REFUSED_SECONDS
        if len(self._until) > MAX_BODIES:
            del self._until[next(iter(self._until))]
        self._lengths = frozenset(length for length, _ in self._until)

    def check(self, body: Body, now: float) -> None:
        """Refuse a body that replicas died of.

        Raises:
            Refusal: it is refused for now.
        """
        if len(body) not in self._lengths:
            return
        left = self._until.get(_key(body), 0.0) - now
        if left > 0:
            raise Refusal(
                REQUEST_KILLS_ENGINE,
                f"two replicas died while they held this body: it is refused for {left:.0f} s more",
            )


def _key(body: Body) -> tuple[int, bytes]:
    return len(body), hashlib.blake2b(body, digest_size=16).digest()
