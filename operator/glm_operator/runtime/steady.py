"""Amounts that may rise at once and fall only when they stay down. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

FALL_SECONDS = 30.0
"""How long a node must offer fewer GPUs before that counts.

After a reboot, or while its device plugin starts again, a node is Ready with none for some
seconds.
"""


@dataclass(frozen=True, slots=True)
class Level:
    """An amount, and since when no more than it was heard of. Seconds of the caller's clock."""

    count: int
    since: float


Levels = tuple[Level, ...]
"""What one amount was in the last `FALL_SECONDS`, from the largest down to the present one."""


def heard(levels: Levels, count: int, now: float) -> Levels:
    """The levels after the amount was heard to be `count`."""
    smaller = [level for level in levels if level.count <= count]
    since = min((level.since for level in smaller), default=now)
    return (*(level for level in levels if level.count > count), Level(count, since))


def settled(levels: Levels, now: float) -> Levels:
    """The levels without those that were left for good."""
    left = sum(below.since + FALL_SECONDS <= now for below in levels[1:])
    return levels[left:]


def falls_at(levels: Levels) -> float | None:
    """When the amount that counts falls if nothing else is heard; None: it does not."""
    return levels[1].since + FALL_SECONDS if len(levels) > 1 else None


class Steady:
    """The amounts of one node by resource."""

    def __init__(self) -> None:
        self._levels: dict[str, Levels] = {}

    def hear(self, amounts: Mapping[str, int], now: float) -> dict[str, int]:
        """Take in what the node offers now; returns what counts. A missing resource is none."""
        for resource in self._levels.keys() | amounts.keys():
            before = settled(self._levels.get(resource, ()), now)
            self._levels[resource] = heard(before, amounts.get(resource, 0), now)
        counted = {resource: levels[0].count for resource, levels in self._levels.items()}
        return {name: count for name, count in counted.items() if count or name in amounts}

    def falls_at(self) -> float | None:
        """When an amount that counts falls next if nothing else is heard; None: none does."""
        times = [falls_at(levels) for levels in self._levels.values()]
        return min((at for at in times if at is not None), default=None)
