"""Who sets the number of a tier's replicas, and how many the user is owed whatever the load."""

from __future__ import annotations

from glm_operator.api.enums import ScalingMode
from glm_operator.api.tier import AnyTier, FlashTier


def scaled_by_operator(spec: AnyTier) -> bool:
    """Whether the operator sets the number of replicas."""
    return isinstance(spec, FlashTier) and spec.scaling.mode is ScalingMode.INTERNAL


SCALED_BY_OPERATOR, SCALED_BY_SCALE, SCALED_BY_SPEC = "Operator", "Scale", "Spec"
"""Who sets the number of replicas: the operator, an autoscaler or kubectl through the scale
subresource, or whoever writes the spec."""


def scaled_by(spec: AnyTier) -> str:
    """Who sets the number of replicas."""
    if scaled_by_operator(spec):
        return SCALED_BY_OPERATOR
    external = isinstance(spec, FlashTier) and spec.scaling.mode is ScalingMode.EXTERNAL
    return SCALED_BY_SCALE if external else SCALED_BY_SPEC


def promised(spec: AnyTier) -> int:
    """Replicas that the user is owed whatever the load."""
    if isinstance(spec, FlashTier) and scaled_by_operator(spec):
        return spec.scaling.min_replicas
    return spec.replicas


def owed(spec: AnyTier) -> int:
    """Replicas that come before what only the load asks for, of this object or of others."""
    if scaled_by(spec) == SCALED_BY_SCALE:
        # Whoever scales it from outside follows the load too; being there at all is promised.
        return min(1, spec.replicas)
    return promised(spec)


def follows_load(spec: AnyTier) -> bool:
    """Whether the number of replicas changes with the load, whoever changes it."""
    return scaled_by(spec) != SCALED_BY_SPEC
