"""The status of an object whose plan could not be made or carried out. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glm_operator.api import reasons
from glm_operator.kube.errors import EXCEEDED_QUOTA, ForeignObjectError, KubeError, RefusedError
from glm_operator.plan.conditions import FALSE, TRUE, Condition, render
from glm_operator.plan.observed import Observed

LASTING = (RefusedError, ForeignObjectError)
"""Failures that only a person or another controller can end. Others are over in a moment."""


def invalid(raw: Mapping[str, Any], sentence: str, now: float) -> dict[str, Any]:
    """The status of an object that this operator's schema does not allow.

    Everything else of the status stays: what runs keeps running as it was last planned.
    """
    status = dict(raw.get("status") or {})
    generation = raw["metadata"].get("generation", 0)
    troubles = [
        Condition("Ready", FALSE, reasons.INVALID_SPEC, sentence),
        Condition("Planned", FALSE, reasons.INVALID_SPEC, sentence),
    ]
    return _with(status, status, troubles, generation, now)


def is_lasting(error: KubeError) -> bool:
    """Whether a user should be told: the failure does not end by itself."""
    return isinstance(error, LASTING)


def failed(
    status: Mapping[str, Any], observed: Observed, error: KubeError, now: float
) -> dict[str, Any]:
    """The planned status, with what could not be done."""
    trouble = Condition("Degraded", TRUE, _reason(error), str(error))
    return _with(status, observed.status, [trouble], observed.generation, now)


def _reason(error: KubeError) -> str:
    if isinstance(error, ForeignObjectError):
        return reasons.NAME_TAKEN
    return reasons.QUOTA_EXCEEDED if EXCEEDED_QUOTA in str(error) else reasons.REFUSED


def _with(
    status: Mapping[str, Any],
    stored: Mapping[str, Any],
    troubles: list[Condition],
    generation: int,
    now: float,
) -> dict[str, Any]:
    """The status with some conditions in place of those of the same type."""
    rendered = render(troubles, stored.get("conditions") or (), generation, now)
    by_type = {one["type"]: one for one in rendered}
    kept = [by_type.pop(one["type"], one) for one in status.get("conditions") or ()]
    return {**status, "conditions": [*kept, *by_type.values()]}
