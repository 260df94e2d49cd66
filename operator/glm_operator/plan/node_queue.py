"""Nodes that could take one kind of replica, the cheapest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

Cost = tuple[int, bool, int, int, int, int, str]
"""How dear a node of a zone is to a demand: GPUs it lacks, whether it could not take the weights,
holes lost, how far the weights are, GPUs left over, siblings, its name."""


@dataclass(slots=True)
class NodeQueue:
    """Nodes that could take a demand, by zone, each zone's cheapest first.

    A new replica makes all nodes of its zone dearer: so it costs one comparison of zones instead
    of new costs for all their nodes. Entries may be out of date.
    """

    zones: dict[str, list[Cost]] = field(default_factory=dict)
    whole: bool = False
    """Whether nodes without room are in it too: only who waits for one needs them."""

    def copy(self) -> NodeQueue:
        """An independent queue of the same nodes."""
        zones = {zone: list(heap) for zone, heap in self.zones.items()}
        return NodeQueue(zones, self.whole)

    def add(self, costs: Iterable[tuple[str, Cost]]) -> None:
        """Add many nodes at once."""
        for zone, cost in costs:
            self.zones.setdefault(zone, []).append(cost)
        for heap in self.zones.values():
            heapq.heapify(heap)

    def push(self, zone: str, cost: Cost) -> None:
        """Add what a node costs now."""
        if self.whole or not cost[0]:
            heapq.heappush(self.zones.setdefault(zone, []), cost)
