"""Tries again what may work later: bounded, with growing waits, as long as nothing moves."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from glm_serving.weights.errors import WeightsError

TRIES = 10
TROUBLE_TRIES = 3
"""Failures in a row that somebody should hear of: fewer are everyday."""
LONGEST_SECONDS = 60.0
log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How a transient error is waited out."""

    moved: Callable[[], int]
    """Bytes that came so far: whoever gets some is not stuck, and may begin to count again."""
    tell: Callable[[str], None]
    """Told what is wrong, from the third failure in a row on."""
    pause: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random
    """From 0 to 1."""

    def __call__(self, work: Callable[[], Result]) -> Result:
        """Do it. Raises WeightsError: not transient, or after TRIES without a byte."""
        failed, seen = 0, self.moved()
        while True:
            try:
                return work()
            except WeightsError as error:
                failed, seen = (1, self.moved()) if self.moved() > seen else (failed + 1, seen)
                if not error.transient or failed >= TRIES:
                    raise
                if failed >= TROUBLE_TRIES:
                    self.tell(str(error))
                wait = self.wait(failed)
                log.warning("%s Trying again in %.0f s (%d of %d).", error, wait, failed, TRIES)
                self.pause(wait)

    def wait(self, failed: int) -> float:
        """Seconds before the next try: 1, 2, 4 ... LONGEST_SECONDS, of which half is chance."""
        longest = min(LONGEST_SECONDS, 2.0 ** (failed - 1))
        return longest * (0.5 + 0.5 * self.chance())
