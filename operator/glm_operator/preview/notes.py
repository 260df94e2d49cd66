"""What a reader of a report must know beside the verdict: nodes left out, GPUs that are too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from glm_operator.api import names
from glm_operator.api.enums import PrePull
from glm_operator.api.tier import AnyTier, FlashTier
from glm_operator.catalog import text_of
from glm_operator.plan.newnodes import policy_of
from glm_operator.plan.observed import Node, Observed
from glm_operator.plan.placement import health_refusal
from glm_operator.plan.promises import promised, scaled_by_operator
from glm_operator.plan.stock import CLAIM_PATH, HUB, NODE_PATH
from glm_operator.plan.tier import Course

NAMED = 16
"""Nodes that a note names; of more it tells the number."""


def unused(nodes: Iterable[Node]) -> tuple[str, ...]:
    """A note that names the nodes with GPUs to which nothing new may go at present."""
    found = [
        f"{node.name} ({health_refusal(node).removeprefix('is ')})"
        for node in nodes
        if health_refusal(node) and any(node.allocatable.values())
    ]
    if not found:
        return ()
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return (f"not used now: {', '.join(found[:NAMED])}{more}",)


def shortfall(observed: Observed, needs: Iterable[tuple[str, int]]) -> str:
    """How many GPUs all replicas need together, and how many there are; by resource.

    Args:
        observed: the planner's input; GPUs that the object's own replicas hold count as free.
        needs: for each tier the resource and the GPUs of all its replicas.
    """
    wanted: Counter[str] = Counter()
    for resource, gpus in needs:
        wanted[resource] += gpus
    own = {replica.uid for replica in observed.replicas}
    usable = [node for node in observed.nodes if not health_refusal(node)]
    return "together they need " + "; ".join(
        _sum(resource, gpus, usable, own) for resource, gpus in wanted.items()
    )


def _sum(resource: str, gpus: int, nodes: Iterable[Node], own: set[str]) -> str:
    there = free = 0
    for node in nodes:
        count = node.allocatable.get(resource, 0)
        held = sum(
            hold.count for hold in node.holds if hold.resource == resource and hold.uid not in own
        )
        there += count
        free += max(0, count - held)
    pieces = "" if gpus > free else ", too few of them on one node that may be used"
    return f"{_gpus(gpus)} ({resource}), and these nodes have {there} ({free} free{pieces})"


def growth(
    observed: Observed, gpus_of: Mapping[str, int], fits: Callable[[Observed], bool]
) -> Iterator[tuple[str, str]]:
    """For each tier that may grow beyond its nodes: its name, and how far it could.

    Args:
        observed: the planner's input, which fits as it is.
        gpus_of: the GPUs of a replica, by tier.
        fits: asks the planner.
    """
    for name, tier in observed.object.spec.tiers.items():
        most = most_replicas(tier)
        # Where new nodes would come, the present ones are no limit.
        if not isinstance(tier, FlashTier) or most == promised(tier) or policy_of(tier):
            continue
        possible = _largest(observed, tier, fits)
        if possible < most:
            yield (
                name,
                (
                    f"{name} may grow to {most} replicas ({_gpus(most * gpus_of[name])}), and these"
                    f" nodes have room for {possible} beside the other tiers"
                ),
            )


def checkpoints(observed: Observed, chosen: Mapping[str, Course]) -> Iterator[str]:
    """Notes on tiers that the operator would plan without the facts that the preview was told.

    `chosen`: what the plan chose for each tier.
    """
    tiers = dict(observed.object.spec.tiers.items())
    for name, told in observed.checkpoints.items():
        why = _not_read(tiers[name])
        if why:
            yield f"{name}: the operator plans it by the object alone ({why}), and not by its files"
        engine = chosen[name].resolution.engine
        if engine and chosen[name].resolution.recorded and engine.checkpoint != text_of(told):
            yield f"{name}: what runs keeps the size it began with until the tier is edited"


def _not_read(tier: AnyTier) -> str:
    if not tier.model.uri.startswith((HUB, CLAIM_PATH, NODE_PATH)):
        return f"model.uri is {tier.model.uri}"
    return "weights.prePull is Disabled" if tier.weights.pre_pull is PrePull.DISABLED else ""


def most_replicas(tier: AnyTier) -> int:
    """Replicas that the tier has at most; an autoscaler behind /scale has limits of its own."""
    if isinstance(tier, FlashTier) and scaled_by_operator(tier):
        return tier.scaling.max_replicas
    return promised(tier)


def _largest(observed: Observed, tier: FlashTier, fits: Callable[[Observed], bool]) -> int:
    """The most replicas of the flash tier that fit, at most those that scaling makes."""
    possible, beyond = promised(tier), most_replicas(tier) + 1
    tried = beyond - 1
    while possible < tried:
        if fits(_promising(observed, tier, tried)):
            possible = tried
        else:
            beyond = tried
        tried = (possible + beyond) // 2
    return possible


def _promising(observed: Observed, tier: FlashTier, replicas: int) -> Observed:
    """The same, with so many replicas of the flash tier promised."""
    spec = observed.object.spec
    scaling = tier.scaling.model_copy(update={"min_replicas": replicas})
    flash = tier.model_copy(update={"scaling": scaling})
    tiers = spec.tiers.model_copy(update={names.FLASH: flash})
    deployment = observed.object.model_copy(
        update={"spec": spec.model_copy(update={"tiers": tiers})}
    )
    return replace(observed, object=deployment)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
