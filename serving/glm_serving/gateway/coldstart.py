"""How long a tier that sleeps takes to serve: learnt from its starts, told to who waits."""

from __future__ import annotations

from collections.abc import Callable

LATEST_WEIGHT = 0.5
"""How far the start that was seen last moves what the next is expected to take."""
OVERDUE_SHARE = 0.25
"""A start that takes longer than expected is expected to take this share of its age once more."""
SAME_START_SECONDS = 60.0
"""Who asks so soon after everybody left asks for the start that is under way."""
UNKNOWN_SECONDS = 10.0
"""When to come again where no start was ever seen."""


class ColdStart:
    """The starts of one tier. Times are seconds of the event loop's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began: float | None = None
        self._left: float | None = None
        self._expected: float | None = None

    def asked(self) -> None:
        """A request needs the tier while it has no replica: that starts one, sooner or later."""
        now = self._clock()
        if self._left is not None and now - self._left > SAME_START_SECONDS:
            self._began = None
        self._left = None
        if self._began is None:
            self._began = now

    def passed_by(self) -> None:
        """A request needs the tier and does not wait for it."""
        waited_for = self._began is not None and self._left is None
        self.asked()
        if not waited_for:
            self.left()

    def left(self) -> None:
        """Nobody waits any more."""
        self._left = self._clock()

    def served(self) -> None:
        """A replica is ready."""
        if self._began is None:
            return
        seconds = self._clock() - self._began
        known = seconds if self._expected is None else self._expected
        self._expected = known + LATEST_WEIGHT * (seconds - known)
        self._began = self._left = None

    def estimate_seconds(self) -> float | None:
        """How long the start under way still takes; None where that is not known."""
        if self._began is None or self._expected is None:
            return None
        age = self._clock() - self._began
        return max(1.0, self._expected - age, OVERDUE_SHARE * age)

    def retry_seconds(self) -> float:
        """When it is worth coming again: the estimate, or a guess from how long it took so far."""
        known = self.estimate_seconds()
        if known is not None:
            return known
        age = 0.0 if self._began is None else self._clock() - self._began
        return max(UNKNOWN_SECONDS, OVERDUE_SHARE * age)
