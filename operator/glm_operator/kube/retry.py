"""How long to wait before a failed call or pass is tried again. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Random = Callable[[], float]
"""Returns a number in [0, 1)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter: between half and all of `base * 2^n`, at most `limit`."""

    base_seconds: float
    limit_seconds: float
    attempts: int = 0
    """How often a call is made in all; 0: without end."""

    def delay(self, failures: int, random: Random, asked: float | None = None) -> float:
        """Seconds to wait after the n-th failure in a row (from 1).

        `asked` is what the server wants at least (Retry-After); it counts up to the limit.
        """
        # The exponent is bounded so that a failure that lasts for days cannot overflow.
        full = min(self.limit_seconds, self.base_seconds * 2.0 ** min(failures - 1, 30))
        jittered = full * (0.5 + random() / 2)
        return max(jittered, min(asked or 0.0, self.limit_seconds))

    def is_spent(self, failures: int) -> bool:
        """Whether no attempt is left after so many failures."""
        return bool(self.attempts) and failures >= self.attempts


CALLS = Backoff(base_seconds=0.1, limit_seconds=5.0, attempts=4)
"""Within one call to the API server."""
PASSES = Backoff(base_seconds=0.25, limit_seconds=120.0)
"""Between reconcile passes of one object that fail."""
REFUSALS = Backoff(base_seconds=5.0, limit_seconds=300.0)
"""After the server said no: only a person or another controller can change that."""
STREAMS = Backoff(base_seconds=0.25, limit_seconds=30.0)
"""Between attempts to list and watch."""
VERIFICATIONS = Backoff(base_seconds=5.0, limit_seconds=120.0)
"""Between checks of an engine that did not answer as it must."""
