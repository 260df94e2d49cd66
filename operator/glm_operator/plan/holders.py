"""Which nodes hold the weights of an engine."""

from __future__ import annotations

from dataclasses import dataclass

HELD, COMING, ABSENT, REFUSED = range(4)


@dataclass(frozen=True, slots=True)
class Holders:
    """Where the weights of an engine are."""

    everywhere: bool = True
    """Every node that could run the engine reaches them."""
    nodes: frozenset[str] = frozenset()
    """Nodes with a complete copy."""
    coming: frozenset[str] = frozenset()
    """Nodes to which a copy is on its way."""
    refused: frozenset[str] = frozenset()
    """Nodes that could not take one, and are not tried again yet."""

    def holds(self, node: str) -> bool:
        """Whether a replica could start on a node now."""
        return self.everywhere or node in self.nodes

    def distance(self, node: str) -> int:
        """How far the weights are from a node: held, coming, absent, or refused."""
        if self.holds(node):
            return HELD
        if node in self.coming:
            return COMING
        return REFUSED if node in self.refused else ABSENT


EVERYWHERE = Holders()
