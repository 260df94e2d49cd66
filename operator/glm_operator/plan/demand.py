"""What replicas ask of a node, and what is kept for those that come first. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glm_operator.plan.holders import EVERYWHERE, Holders
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.limits import Resources
from glm_operator.plan.observed import Node
from glm_operator.plan.order import Rank

Hosts = Callable[[Kinds], Sequence[Node]]
"""Which nodes could host a replica, were they empty and well."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What one new replica asks of a node."""

    tier: str
    """Whose siblings it keeps away from; empty: nobody's."""
    resource: str
    gpus: int
    hosts: Hosts
    hole: int = 0
    """GPUs in one piece that should stay together for a larger tier; 0: nothing to keep whole."""
    hosting: str = ""
    """Names what `hosts` judges by: demands that are alike in it share its answer."""
    homes: frozenset[str] = frozenset()
    """Nodes that come before all others where they have room."""
    owed: int = 0
    """So many replicas come in the tier's own place in the order; see `later`."""
    later: Rank | None = None
    """The place of replicas beyond `owed`; None: the same."""
    refusal: Callable[[Node], str] = lambda node: ""
    """Why a node is not among `hosts`, as a sentence."""
    resources: Resources | None = None
    """What its pod asks for, which the namespace has to admit; None: it admitted it already."""
    holders: Holders = EVERYWHERE
    """Where its weights are: such nodes come first, and on others its pod has to wait for them."""


@dataclass(frozen=True, slots=True)
class Queued:
    """Replicas that come before those of the plan's own object, once it is as far as `rank`."""

    rank: Rank
    demand: Demand
    count: int


@dataclass(frozen=True, slots=True)
class Kept:
    """GPUs of one node that are left to replicas which come first."""

    rank: Rank
    resource: str
    gpus: int
