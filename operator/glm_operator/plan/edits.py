"""What an edit of an object that runs would do to its replicas, before anybody makes it.

Decided as the operator decides it: by the hash of a tier's inputs, by its ControllerRevisions
and by what the new inputs come to on the nodes there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from glm_operator.api import names
from glm_operator.api.model import Model
from glm_operator.api.tier import AnyTier, Placement, Weights
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.admission import courses
from glm_operator.plan.observed import Defaults, Observed, Replica
from glm_operator.plan.planner import room_of, scene_of
from glm_operator.plan.promises import promised
from glm_operator.plan.replicas import is_finished
from glm_operator.plan.resolve import LIVE_FIELDS, LIVE_PLACEMENT, LIVE_WEIGHTS, read_record
from glm_operator.plan.scene import Scene
from glm_operator.plan.tier import Course

PULL_SECRETS = "spec.imagePullSecrets"
MEDIA_DOMAINS = "spec.gateway.media.allowedDomains"
_LIVE = {f"placement.{Placement.model_fields[name].alias}" for name in LIVE_PLACEMENT} | {
    f"weights.{Weights.model_fields[name].alias}" for name in LIVE_WEIGHTS
}


class Effect(StrEnum):
    """What becomes of the replicas of a tier."""

    ADDED = "Added"
    REMOVED = "Removed"
    RESTARTS = "Restarts"
    WAITS = "Waits"
    """They would be replaced, and what replaces them has no place."""
    NOTHING = "Nothing"


@dataclass(frozen=True, slots=True)
class TierEdit:
    """What an edit does to one tier."""

    tier: str
    effect: Effect
    replicas: int
    """How many replicas begin (Added), end (Removed), or are replaced."""
    restarting: tuple[str, ...] = ()
    """Paths below the tier, of changed fields that a pod is made of."""
    live: tuple[str, ...] = ()
    """Paths below the tier, of changed fields that are applied without touching a pod."""
    waits_for: str = ""
    """Why what is new cannot begin, as a sentence."""
    runs: bool = True
    """Whether the tier has a replica now."""

    def document(self) -> dict[str, Any]:
        """The edit as plain data."""
        return {
            "tier": self.tier,
            "effect": self.effect.value,
            "replicas": self.replicas,
            "restartingFields": list(self.restarting),
            "liveFields": list(self.live),
            "message": self.sentence(),
        }

    def sentence(self) -> str:
        """The edit in words."""
        return f"{self.tier}: {self._text()}"

    def _text(self) -> str:
        many = "1 replica" if self.replicas == 1 else f"{self.replicas or 'no'} replicas"
        verb = "is" if self.replicas == 1 else "are"
        fields = ", ".join(self.restarting) or "an earlier edit"
        match self.effect:
            case Effect.ADDED if not self.replicas:
                return "is added; starts with no replica"
            case Effect.REMOVED if not self.replicas:
                return "is removed; no replica runs"
            case Effect.ADDED:
                return f"is added, {many} begin{'s' if self.replicas == 1 else ''}"
            case Effect.REMOVED:
                return f"is removed, {many} end{'s' if self.replicas == 1 else ''}"
            case Effect.RESTARTS:
                return f"restarts, {many} {verb} replaced ({fields})"
            case Effect.WAITS:
                return f"keeps what runs: {many} would be replaced ({fields}), and {self.waits_for}"
            case Effect.NOTHING:
                return "nothing restarts" + self._remarks()

    def _remarks(self) -> str:
        meaning = "comes to the same engine" if self.runs else "counts from the next replica on"
        parts = [(self.restarting, meaning), (self.live, "applied live")]
        remarks = [f"{', '.join(paths)}: {text}" for paths, text in parts if paths]
        return f" ({'; '.join(remarks)})" if remarks else ""


def edits(
    before: GLMDeployment, observed: Observed, now: float, defaults: Defaults
) -> tuple[TierEdit, ...]:
    """What applying `observed.object` does to each tier of it and of `before`, the stored one."""
    scene = scene_of(observed, now, defaults)
    chosen = courses(scene, room_of(scene))
    present = [name for name in names.TIERS if _tier(before, name) or name in chosen]
    return tuple(_edit(scene, before, name, chosen.get(name)) for name in present)


def recorded_defaults(stored: Observed, defaults: Defaults) -> Defaults:
    """With the image that the running operator gives to tiers that name none, as recorded."""
    tiers = stored.object.spec.tiers.items()
    silent = {name for name, tier in tiers if not tier.engine.image}
    records = [one for one in stored.revisions if one.tier in silent]
    if not records:
        return defaults
    newest = max(records, key=lambda one: one.number)
    return replace(defaults, engine_image=read_record(newest)[0].image)


def _edit(scene: Scene, before: GLMDeployment, name: str, course: Course | None) -> TierEdit:
    stored, wanted = _tier(before, name), _tier(scene.observed.object, name)
    if wanted is None or course is None:
        return TierEdit(name, Effect.REMOVED, len(_running(scene, name)))
    if stored is None:
        return TierEdit(name, Effect.ADDED, promised(wanted))
    changed = tuple(_differences(stored, wanted))
    restarting = (*_outside(before, scene, wanted), *(one for one in changed if not _is_live(one)))
    target, running = course.resolution.revision, _running(scene, name)
    replaced = sum(one.revision != target for one in running)
    waits_for = course.held if target else "what is new does not fit"
    effect = _effect(bool(restarting), replaced, waits_for)
    live = tuple(filter(_is_live, changed))
    return TierEdit(name, effect, replaced, restarting, live, waits_for, bool(running))


def _effect(restarting: bool, replaced: int, waits_for: str) -> Effect:
    if waits_for and (restarting or replaced):
        return Effect.WAITS
    return Effect.RESTARTS if replaced else Effect.NOTHING


def _tier(deployment: GLMDeployment, name: str) -> AnyTier | None:
    return dict(deployment.spec.tiers.items()).get(name)


def _running(scene: Scene, tier: str) -> list[Replica]:
    return [one for one in scene.replicas(tier) if not one.terminating and not is_finished(one)]


def _is_live(path: str) -> bool:
    parts = path.split(".")
    return parts[0] in LIVE_FIELDS or ".".join(parts[:2]) in _LIVE


def _outside(before: GLMDeployment, scene: Scene, tier: AnyTier) -> Iterator[str]:
    """Changed fields outside the tier that its pods are made of."""
    old, new = before.spec, scene.observed.object.spec
    if sorted(old.image_pull_secrets) != sorted(new.image_pull_secrets):
        yield PULL_SECRETS
    domains = (sorted(spec.gateway.media.allowed_domains) for spec in (old, new))
    if tier.max_images and next(domains) != next(domains):
        yield MEDIA_DOMAINS


def _differences(before: Model, after: Model, place: str = "") -> Iterator[str]:
    """Paths of the fields whose values differ, as a user writes them."""
    for name, field in type(before).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        path = f"{place}{field.alias or name}"
        if isinstance(old, Model) and isinstance(new, Model):
            yield from _differences(old, new, f"{path}.")
        elif old != new:
            yield path
