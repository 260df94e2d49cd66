"""What the planner says of an object on given nodes, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glm_operator.api import reasons
from glm_operator.api.enums import Mode
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.edits import TierEdit, edits, recorded_defaults
from glm_operator.plan.observed import Defaults, Node, Observed
from glm_operator.plan.planner import plan


@dataclass(frozen=True, slots=True)
class Report:
    """What the planner says of an object on given nodes."""

    fits: bool
    """Whether every replica would find a node now."""
    reason: str
    message: str
    tiers: Mapping[str, Mapping[str, Any]]
    """As in the status: by tier how it would run, and what was rejected."""
    edits: tuple[TierEdit, ...] = ()
    """What applying the object would do to replicas that run."""

    @property
    def waits(self) -> bool:
        """Whether it would fit, were the GPUs free."""
        return self.reason == reasons.WAITING_FOR_GPUS

    def document(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "fits": self.fits,
            "reason": self.reason,
            "message": self.message,
            "tiers": {name: dict(tier) for name, tier in self.tiers.items()},
            "edits": [one.document() for one in self.edits],
        }


def report(deployment: GLMDeployment, nodes: tuple[Node, ...], defaults: Defaults) -> Report:
    """Plan the object as if it were new, whatever its mode."""
    observed = Observed(_planned(deployment), uid="", generation=1, nodes=nodes)
    return _report(observed, 0.0, defaults)


def edit_report(deployment: GLMDeployment, stored: Observed, now: float) -> Report:
    """Plan the object as an edit of the stored one, with the replicas that run."""
    edited = replace(stored, object=_planned(deployment), generation=stored.generation + 1)
    defaults = recorded_defaults(stored, Defaults())
    found = edits(stored.object, edited, now, defaults)
    return replace(_report(edited, now, defaults), edits=found)


def _planned(deployment: GLMDeployment) -> GLMDeployment:
    spec = deployment.spec.model_copy(update={"mode": Mode.PLAN})
    return deployment.model_copy(update={"spec": spec})


def _report(observed: Observed, now: float, defaults: Defaults) -> Report:
    status = plan(observed, now, defaults).status
    planned = next(one for one in status["conditions"] if one["type"] == "Planned")
    fits = planned["status"] == "True"
    return Report(fits, planned["reason"], planned["message"], status["plan"])
