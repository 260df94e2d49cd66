"""The whole status: conditions, the plan with its reasons, and the state of each tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glm_operator.api.enums import Mode
from glm_operator.manifests.gateway import gateway_name, service_url
from glm_operator.manifests.labels import selector_text, tier_selector
from glm_operator.plan.conditions import Condition, render
from glm_operator.plan.fit import Hosting, Option
from glm_operator.plan.tier import Scene, TierPlan, scaled_by

MAX_REJECTED = 32
"""A cluster of many shapes would fill the object; the first are the most telling."""


def status(
    scene: Scene, tiers: Sequence[TierPlan], conditions: Sequence[Condition]
) -> dict[str, Any]:
    """The new status; equal to the stored one where nothing changed."""
    stored = scene.observed.status.get("conditions") or []
    generation = scene.observed.generation
    return {
        "conditions": render(conditions, stored, generation, scene.view.now),
        "observedGeneration": generation,
        "plan": {tier.name: _plan(scene, tier) for tier in tiers},
        "tiers": {tier.name: _tier(scene, tier) for tier in tiers},
        "gateway": _gateway(scene, tiers),
    }


def _gateway(scene: Scene, tiers: Sequence[TierPlan]) -> dict[str, str]:
    """Where clients go; nothing while there is no gateway to go to."""
    exists = ("Deployment", gateway_name(scene.owner)) in scene.observed.children
    comes = scene.mode is not Mode.PLAN and any(tier.course.engine for tier in tiers)
    return {"url": service_url(scene.owner)} if exists or comes else {}


def _plan(scene: Scene, tier: TierPlan) -> dict[str, Any]:
    """What the tier's inputs come to, and everything that was not taken."""
    resolution = tier.course.resolution
    rejected = [{"option": one.option, "reason": one.reason} for one in resolution.rejected]
    shown = {"rejected": rejected[:MAX_REJECTED]}
    engine, option = resolution.engine, _placed(scene, tier)
    if engine is None or option is None:
        return {"model": tier.spec.model.preset} | shown
    return {
        "model": engine.preset,
        "quantization": engine.quantization,
        "tensor": engine.tensor,
        "expert": "Enabled" if engine.expert_parallel else "Disabled",
        "gpusPerReplica": engine.gpus,
        "gpu": option.gpu,
        "nodes": list(tier.nodes),
        "maxModelLen": engine.max_model_len,
        "kvTokens": option.kv_tokens,
        "fullLengthSequences": option.full_length_sequences,
        "headroomBytes": option.headroom_bytes,
    } | shown


def _placed(scene: Scene, tier: TierPlan) -> Option | None:
    """The size as it comes out on the nodes that replicas have: that of the smallest GPU."""
    resolution = tier.course.resolution
    if resolution.engine is None:
        return None
    hosting, nodes = Hosting(resolution.engine), scene.view.nodes
    found = [hosting.option(nodes[name]) for name in tier.nodes if name in nodes]
    sizes = (one for one in found if one is not None)
    return min(sizes, key=lambda one: one.kv_tokens, default=resolution.option)


def _tier(scene: Scene, tier: TierPlan) -> dict[str, Any]:
    ready = len(tier.serving)
    return {
        "replicas": len((*tier.fleet.usable, *tier.fleet.lost, *tier.fleet.stuck)),
        "readyReplicas": ready,
        "desiredReplicas": tier.desired,
        "summary": f"{ready}/{tier.desired}",
        "selector": selector_text(tier_selector(scene.owner.name, tier.name)),
        "revision": tier.course.revision,
        "updateAvailable": tier.course.resolution.update,
        "scaledBy": scaled_by(tier.spec),
    }
