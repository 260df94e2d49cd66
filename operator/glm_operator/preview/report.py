"""What the planner says of an object on given nodes, as plain data with documented keys."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any

from glm_operator.api import reasons
from glm_operator.api.enums import Mode
from glm_operator.api.quantities import exact
from glm_operator.api.tier import AnyTier
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan import newnodes
from glm_operator.plan.admission import courses
from glm_operator.plan.edits import TierEdit, edits, recorded_defaults
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Defaults, Node, Observed, PriorityClasses
from glm_operator.plan.planner import plan, room_of, scene_of
from glm_operator.plan.promises import promised
from glm_operator.plan.quota import UNLIMITED, Limits
from glm_operator.plan.resolve import Inputs
from glm_operator.plan.tier import Course
from glm_operator.preview import notes
from glm_operator.preview.explain import Candidate, candidates

Json = dict[str, Any]

CHECKPOINT_REFUSALS = (
    reasons.ARCHITECTURE_UNSUPPORTED,
    reasons.CHECKPOINT_MISMATCH,
    reasons.CHECKPOINT_UNREADABLE,
)
_MORE = re.compile(r" \(\d+ more in status\.plan\)")
"""Where a status sends its reader for what is part of a report."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer is about."""

    text: str = ""
    """In words, such as `the nodes of cluster.json`."""
    version: str = ""
    """Of glm-operator."""
    described: bool = False
    """Whether nobody has the nodes yet, so that there is no now to speak of."""
    notes: tuple[str, ...] = ()
    """What the reader must know of it."""


NOTHING_SAID = Basis()


@dataclass(frozen=True, slots=True)
class Report:
    """What the planner says of an object on given nodes."""

    fits: bool
    """Whether every replica would find a node now."""
    reason: str
    message: str
    tiers: Mapping[str, Json]
    """By tier: as in the status, with the replicas and what they take together."""
    edits: tuple[TierEdit, ...] = ()
    """What applying the object would do to replicas that run."""
    mode: str = Mode.LIVE.value
    """The object's own mode; nothing happens to replicas before it is Live."""
    shortfall: str = ""
    """The sum of what is lacking, where every tier fits alone and not together."""
    notes: tuple[str, ...] = ()
    """What else the reader must know of the nodes."""
    basis: Basis = NOTHING_SAID

    @property
    def waits(self) -> bool:
        """Whether it would fit, were the GPUs free or new nodes there."""
        return self.reason in (reasons.WAITING_FOR_GPUS, reasons.WAITING_FOR_NODES)

    @property
    def refused(self) -> bool:
        """Whether a checkpoint cannot be served, whatever the nodes."""
        return self.reason in CHECKPOINT_REFUSALS

    def document(self) -> Json:
        """The report as plain data. The keys are documented in docs/plan.md."""
        return {
            "fits": self.fits,
            "reason": self.reason,
            "message": self.message,
            "tiers": dict(self.tiers),
            "totals": self.totals(),
            "mode": self.mode,
            "edits": [one.document() | {"message": one.sentence()} for one in self.edits],
            "shortfall": self.shortfall,
            "notes": list(self.notes),
            "plannedOn": self.basis.text,
            "version": self.basis.version,
        }

    def totals(self) -> Json:
        """What all tiers that fit take together, with the fewest replicas and with the most."""
        sized = [tier for tier in self.tiers.values() if "gpu" in tier]
        nodes = {node for tier in sized for node in tier["nodes"]}
        gpus: Counter[str] = Counter()
        for tier in sized:
            gpus[tier["gpu"]] += tier["gpus"]
        return {
            "gpus": sum(gpus.values()),
            "maxGpus": sum(tier["maxGpus"] for tier in sized),
            "gpusByProduct": dict(gpus),
            "nodes": len(nodes),
            "cpu": float(_total(sized, "cpu")),
            "memoryBytes": ceil(_total(sized, "memory")),
            "checkpointBytes": sum(tier["checkpointBytes"] for tier in sized),
        }


def _total(tiers: Iterable[Json], key: str) -> Fraction:
    """The sum of a quantity over all replicas."""
    each = ((exact(tier[key]) or Fraction(0)) * int(tier["replicas"]) for tier in tiers)
    return sum(each, Fraction(0))


@dataclass(frozen=True, slots=True)
class Question:
    """The planner's input for one report."""

    observed: Observed
    now: float
    defaults: Defaults
    mode: Mode
    """What the object itself says; it is planned in mode Plan."""
    stored: GLMDeployment | None = None
    """The object that `observed.object` is an edit of; None: it is new."""
    basis: Basis = NOTHING_SAID

    def told(self, checkpoints: Mapping[str, Mapping[str, Any]]) -> Question:
        """The same with what is known of the checkpoints of some tiers."""
        return replace(self, observed=replace(self.observed, checkpoints=checkpoints))

    def answer(self, explain: bool) -> Report:
        """Ask the planner. `explain`: with the arithmetic."""
        found = replace(_report(self.observed, self.now, self.defaults), mode=self.mode.value)
        found = _noted(found, self)
        if self.stored is not None:
            made = edits(self.stored, self.observed, self.now, self.defaults)
            found = replace(found, edits=made)
        return _explained(found, self) if explain else found

    def courses(self) -> Mapping[str, Course]:
        """What the plan chooses for each tier."""
        scene = scene_of(self.observed, self.now, self.defaults)
        return courses(scene, room_of(scene))


NO_CLASSES = PriorityClasses()
"""Of a cluster whose PriorityClasses are not known."""


@dataclass(frozen=True, slots=True)
class Around:
    """What is around an object: what a cluster offers and its namespace allows."""

    nodes: tuple[Node, ...]
    limits: Limits = UNLIMITED
    drivers: frozenset[str] = frozenset()
    """Drivers that offer GPUs by dynamic resource allocation."""
    priorities: PriorityClasses = NO_CLASSES
    basis: Basis = NOTHING_SAID

    def put(self, observed: Observed) -> Observed:
        """The planner's input with what is around its object."""
        return replace(
            observed,
            nodes=self.nodes,
            limits=self.limits,
            drivers=self.drivers,
            priorities=self.priorities,
        )


def about_new(deployment: GLMDeployment, around: Around) -> Question:
    """How the object would run if it were new, whatever its mode."""
    observed = around.put(Observed(_planned(deployment), uid="", generation=1, hypothetical=True))
    return Question(observed, 0.0, Defaults(), deployment.spec.mode, basis=around.basis)


def about_edit(deployment: GLMDeployment, stored: Observed, around: Around, now: float) -> Question:
    """How the object would run as an edit of the stored one, with the replicas that run."""
    planned, generation = _planned(deployment), stored.generation + 1
    edited = replace(stored, object=planned, generation=generation, hypothetical=True)
    defaults = recorded_defaults(stored, Defaults())
    observed, mode = around.put(edited), deployment.spec.mode
    return Question(observed, now, defaults, mode, stored.object, around.basis)


def _planned(deployment: GLMDeployment) -> GLMDeployment:
    spec = deployment.spec.model_copy(update={"mode": Mode.PLAN})
    return deployment.model_copy(update={"spec": spec})


def _noted(result: Report, question: Question) -> Report:
    """With what the verdict alone does not tell."""
    observed = question.observed
    told = [*question.basis.notes, *notes.unused(observed.nodes)]
    if observed.checkpoints:
        told += notes.checkpoints(observed, question.courses())
    found = replace(result, notes=tuple(told), basis=question.basis)
    if result.fits:
        return replace(found, tiers=_with_growth(found.tiers, question))
    sized = all("gpus" in tier for tier in result.tiers.values())
    if result.reason != reasons.WAITING_FOR_GPUS or _replicas(result) == 1 or not sized:
        return found
    tiers = observed.object.spec.tiers.items()
    needs = ((tier.placement.accelerator_resource, result.tiers[n]["gpus"]) for n, tier in tiers)
    return replace(found, shortfall=notes.shortfall(observed, needs))


def _replicas(result: Report) -> int:
    return sum(tier["replicas"] for tier in result.tiers.values())


def _with_growth(tiers: Mapping[str, Json], question: Question) -> Mapping[str, Json]:
    """The tiers, each with a warning where it may grow beyond the nodes."""

    def fits(observed: Observed) -> bool:
        return _report(observed, question.now, question.defaults).fits

    gpus = {name: int(tier["gpusPerReplica"]) for name, tier in tiers.items()}
    found = dict(notes.growth(question.observed, gpus, fits))
    return {
        name: tier | {"warnings": [*tier.get("warnings", ()), found[name]]}
        if name in found
        else tier
        for name, tier in tiers.items()
    }


def _explained(result: Report, question: Question) -> Report:
    """With the arithmetic of what was taken and of what came nearest."""
    found = {
        name: [one.document() for one in _candidates(name, course, question)]
        for name, course in question.courses().items()
    }
    tiers = {name: tier | {"explain": found[name]} for name, tier in result.tiers.items()}
    return replace(result, tiers=tiers)


def _candidates(name: str, course: Course, question: Question) -> tuple[Candidate, ...]:
    resolution, spec = course.resolution, question.observed.object.spec
    if resolution.refusal is not None:
        return ()
    tier = dict(spec.tiers.items())[name]
    domains = spec.gateway.media.allowed_domains
    inputs = Inputs(
        name,
        tier,
        spec.image_pull_secrets,
        question.defaults,
        course.facts,
        allowed_domains=domains,
    )
    nodes = newnodes.candidates(tier, Kinds(question.observed.nodes))
    return candidates(inputs, resolution.engine, resolution.option, nodes)


def _report(observed: Observed, now: float, defaults: Defaults) -> Report:
    status = plan(observed, now, defaults).status
    planned = next(one for one in status["conditions"] if one["type"] == "Planned")
    tiers = {
        name: _counted(tier, status["plan"][name])
        for name, tier in observed.object.spec.tiers.items()
    }
    message = _MORE.sub("", planned["message"])
    return Report(planned["status"] == "True", planned["reason"], message, tiers)


def _counted(tier: AnyTier, planned: Mapping[str, Any]) -> Json:
    """A tier's plan with its replicas: the promised ones, and the most that scaling makes."""
    fewest = promised(tier)
    most = notes.most_replicas(tier)
    found = {"quantization": tier.model.quantization.value, **planned}
    found |= {"replicas": fewest, "maxReplicas": most}
    if "gpusPerReplica" in planned:
        each = planned["gpusPerReplica"]
        found |= {"gpus": fewest * each, "maxGpus": most * each}
    return found
