"""What objects claim by their last plans, kept in memory. All in the event loop's thread."""

from __future__ import annotations

from collections.abc import Callable

from glm_operator.plan.claims import gives_back, served
from glm_operator.plan.order import Claim
from glm_operator.runtime.queue import Key


class Claims:
    """The claims of all objects: the input that their plans have in common.

    Args:
        wake: asks for a pass of a key. It is called for every object that waits when another
            one claims less than before, as nothing else would tell it.
    """

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._of: dict[Key, tuple[Claim, ...]] = {}
        self._all: tuple[Claim, ...] | None = None

    def all(self) -> tuple[Claim, ...]:
        """Every claim, the first to be served first."""
        if self._all is None:
            found = (claim for claims in self._of.values() for claim in claims)
            self._all = tuple(sorted(found, key=lambda one: one.rank.key))
        return self._all

    def waiting(self) -> list[Key]:
        """Objects that claim something, the first to be served first."""
        return list(dict.fromkeys(claim.rank.object for claim in self.all()))

    def publish(self, key: Key, claims: tuple[Claim, ...]) -> None:
        """An object was planned again: this is what it claims from now on."""
        before = self._of.get(key, ())
        if claims == before:
            return
        self._set(key, claims)
        if gives_back(before, claims):
            for other in self.waiting():
                if other != key:
                    self._wake(other)

    def withdraw(self, key: Key) -> None:
        """An object is gone, or cannot take what it claims."""
        self.publish(key, ())

    def created(self, key: Key, tier: str) -> None:
        """A claimed replica exists now, and holds its GPUs itself."""
        self._set(key, served(self._of.get(key, ()), tier))

    def _set(self, key: Key, claims: tuple[Claim, ...]) -> None:
        self._all = None
        if claims:
            self._of[key] = claims
        else:
            self._of.pop(key, None)
