"""What a plan tells the shell to do, in order. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glm_operator.plan.observed import ScalingMemory
from glm_operator.plan.order import Claim


@dataclass(frozen=True, slots=True)
class CreatePod:
    """Create an engine pod once. `node`, `resource` and `gpus` are re-checked before creation."""

    manifest: Mapping[str, Any]
    node: str
    resource: str
    gpus: int


@dataclass(frozen=True, slots=True)
class TryPod:
    """Ask the API server whether it would create an engine pod; nothing is created.

    What follows takes something away for that pod, so a refusal ends the execution. A quota that
    is exceeded is no refusal: the plan counted what becomes free of it.
    """

    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete an engine pod, guarded by its uid. `grace_seconds` None: the pod's own."""

    name: str
    uid: str
    grace_seconds: int | None
    why: str


@dataclass(frozen=True, slots=True)
class PatchPod:
    """Change labels and annotations of a pod, guarded by its uid. None removes a key."""

    name: str
    uid: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of an owned object with its own field manager."""

    manifest: Mapping[str, Any]
    manager: str


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Delete an owned object that the plan no longer names."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event, emitted after the status was written. `type`: Normal or Warning."""

    type: str
    reason: str
    message: str


Action = CreatePod | TryPod | DeletePod | PatchPod | Apply | DeleteChild


@dataclass(frozen=True, slots=True)
class Plan:
    """The output of the planner."""

    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    """The whole new status; written only when it differs from the stored one."""
    events: tuple[Event, ...] = ()
    requeue_after_seconds: float | None = None
    scaling: Mapping[str, ScalingMemory] = field(default_factory=dict)
    verify: tuple[str, ...] = ()
    """Names of pods whose engine should be checked by tool calls now."""
    scaled: Mapping[str, str] = field(default_factory=dict)
    """Tier -> why its wanted number of replicas changes with this plan (a ScaleReason)."""
    claims: tuple[Claim, ...] = ()
    """Replicas that are wanted now and do not exist, those that `actions` create included."""
