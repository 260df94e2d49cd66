"""Whose turn it is to hand out GPUs. Nobody sits and waits for it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from glm_operator.runtime.queue import Key


class Turns:
    """One key at a time has the turn; the others stand in line and are woken when it is theirs.

    A lock would keep every worker that waits for it, and with all of them waiting no replica would
    leave the routing. All methods run in the event loop's thread.

    Args:
        wake: asks for a pass of the key that is given the turn. That pass, or any earlier one of
            this key, must take it or give it back.
    """

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._holder: Key | None = None
        self._line: OrderedDict[Key, None] = OrderedDict()
        self._closed = False

    def close(self) -> None:
        """Give the turn to nobody until `open`: keys stand in line."""
        self._closed = True

    def open(self) -> None:
        """Give turns again."""
        self._closed = False
        self._next()

    def take(self, key: Key) -> bool:
        """Whether a key has the turn now; otherwise it stands in line from now on."""
        if self._closed or self._holder not in (None, key):
            self._line.setdefault(key)
            return False
        self._holder = key
        self._line.pop(key, None)
        return True

    def give_back(self, key: Key) -> None:
        """Give the turn to the key that is next in line. Does nothing for a key without it."""
        if self._holder != key:
            return
        self._holder = None
        self._next()

    def _next(self) -> None:
        if self._holder is None and self._line and not self._closed:
            self._holder, _ = self._line.popitem(last=False)
            self._wake(self._holder)
