"""Who gets GPUs first when several objects want them. Plain data and the order, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from glm_operator.manifests.engine import EngineSpec


@dataclass(frozen=True, slots=True)
class Rank:
    """The place of some replicas of one tier in the order of all that want GPUs."""

    namespace: str
    name: str
    tier: str
    created_at: float
    """When the object was created, in seconds since the epoch."""
    priority: int = 0
    """The value of the tier's PriorityClass."""
    succeeds: bool = False
    """It takes the place of a replica of its own object that makes way for it."""
    on_load: bool = False
    """Only the load asks for it; nobody promised it."""
    index: int = 0
    """The tier's place in its object."""

    @property
    def object(self) -> tuple[str, str]:
        """Namespace and name of the object."""
        return self.namespace, self.name

    @property
    def key(self) -> tuple[bool, int, bool, float, str, str, int]:
        """What the order sorts by, the first to be served lowest."""
        return (
            not self.succeeds,
            -self.priority,
            self.on_load,
            self.created_at,
            self.namespace,
            self.name,
            self.index,
        )

    def why_before(self, other: Rank) -> str:
        """What puts this rank before another, in a few words."""
        if self.succeeds != other.succeeds:
            return "it replaces a replica of its own"
        if self.priority != other.priority:
            return "higher priority"
        if self.on_load != other.on_load:
            return "promised, and this one only follows the load"
        return "older" if self.created_at != other.created_at else "as old, and first by name"


@dataclass(frozen=True, slots=True)
class Claim:
    """Replicas that an object wants now and that do not exist yet.

    Other objects' plans leave its room to it where it comes first. It is no permission: what it
    comes to is decided by its own object's plan.
    """

    rank: Rank
    engine: EngineSpec
    """What the replicas are made of: it says which nodes could host them."""
    count: int
    hole: int = 0
    """GPUs in one piece that a larger tier of the object needs; 0: none."""
    homes: frozenset[str] = frozenset()
    """Nodes that come before all others."""
