"""What a whole plan looks at, and the order in which its tiers are placed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.api.enums import Mode
from glm_operator.api.tier import AnyTier
from glm_operator.manifests.labels import Owner
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Defaults, Observed, Replica
from glm_operator.plan.order import Rank
from glm_operator.plan.promises import follows_load
from glm_operator.plan.rollout import View
from glm_operator.plan.stock import Stock


@dataclass(frozen=True, slots=True)
class Scene:
    """What the whole plan looks at."""

    observed: Observed
    owner: Owner
    defaults: Defaults
    view: View
    kinds: Kinds
    """All nodes of the cluster."""
    stock: Stock
    """Which weights are where."""

    @property
    def mode(self) -> Mode:
        """What the user lets the operator do."""
        return self.observed.object.spec.mode

    def stored(self, tier: str) -> Mapping[str, Any]:
        """The tier's part of the stored status."""
        tiers: Mapping[str, Any] = self.observed.status.get("tiers") or {}
        part: Mapping[str, Any] = tiers.get(tier) or {}
        return part

    def replicas(self, tier: str) -> tuple[Replica, ...]:
        """All pods of a tier."""
        return tuple(one for one in self.observed.replicas if one.tier == tier)


LARGEST_FIRST = (names.FLAGSHIP, names.TEXT, names.FLASH)
"""Of tiers that are equal otherwise, those that need more GPUs in one piece come first."""


def rank_of(scene: Scene, name: str, spec: AnyTier) -> Rank:
    """The place of a tier's promised replicas among all that want GPUs."""
    observed = scene.observed
    return Rank(
        observed.object.namespace,
        observed.object.name,
        name,
        observed.created_at,
        observed.priorities.value(spec.placement.priority_class_name),
        index=LARGEST_FIRST.index(name),
    )


def in_order(scene: Scene) -> list[tuple[str, AnyTier]]:
    """The object's tiers, the first to be placed first: what follows the load comes last."""

    def place(one: tuple[str, AnyTier]) -> tuple[int, bool, int]:
        name, spec = one
        return -_priority(scene, spec), follows_load(spec), LARGEST_FIRST.index(name)

    return sorted(scene.observed.object.spec.tiers.items(), key=place)


def _priority(scene: Scene, spec: AnyTier) -> int:
    return scene.observed.priorities.value(spec.placement.priority_class_name)
