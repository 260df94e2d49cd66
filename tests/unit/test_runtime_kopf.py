"""kopf as the operator sets it up. What it does with a cluster is seen on a real one."""

from __future__ import annotations

from collections.abc import Sized
from itertools import islice

from glm_operator.runtime.kopf_thread import LONGEST_PAUSE, kopf_settings


def test_a_watch_that_is_refused_is_tried_for_ever() -> None:
    # Of a collection with a length kopf makes one attempt more than it has items, and then ends.
    pauses = kopf_settings().networking.error_backoffs
    assert not isinstance(pauses, Sized | float)
    for _ in range(2):
        first = list(islice(pauses, 100))
        assert first[:2] == [1.0, 1.0]
        assert max(first) == first[-1] == LONGEST_PAUSE
