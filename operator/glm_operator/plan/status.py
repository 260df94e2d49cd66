"""The whole status: conditions, the plan with its reasons, and the state of each tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glm_operator import catalog
from glm_operator.api.enums import Mode
from glm_operator.manifests.arguments import MAX_BATCHED_TOKENS
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.gateway import gateway_name, service_url
from glm_operator.manifests.labels import selector_text, tier_selector
from glm_operator.plan.conditions import Condition, render
from glm_operator.plan.copies import Copy
from glm_operator.plan.fit import Rejection
from glm_operator.plan.hosting import Hosting, checkpoint_of
from glm_operator.plan.promises import scaled_by
from glm_operator.plan.resolve import Resolution, passed_over
from glm_operator.plan.scene import Scene
from glm_operator.plan.sizing import Option
from glm_operator.plan.stock import is_fetched
from glm_operator.plan.tier import TierPlan

MAX_COPIES = 256
MAX_REJECTED = 32
"""A cluster of many shapes would fill the object; the first are the most telling."""


def status(
    scene: Scene,
    tiers: Sequence[TierPlan],
    conditions: Sequence[Condition],
    places: Sequence[Copy] = (),
) -> dict[str, Any]:
    """The new status; equal to the stored one where nothing changed."""
    stored = scene.observed.status.get("conditions") or []
    generation = scene.observed.generation
    return {
        "conditions": render(conditions, stored, generation, scene.view.now),
        "observedGeneration": generation,
        "plan": {tier.name: _plan(scene, tier) for tier in tiers},
        "tiers": {tier.name: _tier(scene, tier) | _weights(tier, places) for tier in tiers},
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
    option = _placed(scene, tier)
    if resolution.engine is None or option is None:
        sized = {"model": tier.spec.model.preset} | _unsized(resolution.checkpoint)
    else:
        sized = _sized(resolution.engine, resolution.option or option, option) | {
            "nodes": list(tier.nodes),
            "alternatives": _shown(_alternatives(resolution)),
        }
    return sized | {"rejected": _shown(resolution.fit.rejected), "help": list(tier.help)}


def _unsized(checkpoint: catalog.Checkpoint | None) -> dict[str, Any]:
    """What is known of a checkpoint that does not fit; nothing where it was not read."""
    if checkpoint is None or not checkpoint.bytes:
        return {}
    return {
        "quantization": checkpoint.form.kind,
        "checkpointBytes": checkpoint.bytes,
        "warnings": list(checkpoint.differences),
    }


def _sized(engine: EngineSpec, recorded: Option, option: Option) -> dict[str, Any]:
    """An engine as it was sized and what it comes to on its GPUs."""
    found = checkpoint_of(engine)
    return {
        "model": engine.preset,
        "quantization": engine.quantization,
        "tensor": engine.tensor,
        "pipeline": engine.pipeline,
        "expert": "Enabled" if engine.expert_parallel else "Disabled",
        "kvCacheDType": "FP8" if engine.fp8_kv_cache else "BF16",
        "gpusPerReplica": engine.gpus,
        "gpu": option.gpu,
        "maxModelLen": engine.max_model_len,
        "kvTokens": option.kv_tokens,
        "fullLengthSequences": option.full_length_sequences,
        "headroomBytes": option.headroom_bytes,
        "gpuWeightBytes": option.weight_bytes,
        "maxNumSeqs": engine.max_num_seqs,
        "maxNumBatchedTokens": MAX_BATCHED_TOKENS,
        "cpu": engine.cpu,
        "memory": engine.memory,
        "sharedMemoryBytes": engine.shm_bytes,
        "checkpointBytes": found.bytes or catalog.checkpoint_bytes(found.model, found.form),
        "warnings": list(dict.fromkeys((*recorded.warnings, *option.warnings))),
    }


def _alternatives(resolution: Resolution) -> Sequence[Rejection]:
    """What fits too, beside the option that was taken, as it was recorded."""
    if resolution.option is None:
        raise ValueError("nothing was taken where nothing fits")
    return passed_over(resolution.fit, resolution.option, recorded=resolution.recorded)


def _shown(rejections: Sequence[Rejection]) -> list[dict[str, str]]:
    shown = rejections[:MAX_REJECTED]
    return [{"option": one.option, "reason": one.reason, "message": one.message} for one in shown]


def _placed(scene: Scene, tier: TierPlan) -> Option | None:
    """The size as it comes out on the nodes that replicas have: that of the smallest GPU."""
    resolution = tier.course.resolution
    if resolution.engine is None:
        return None
    hosting, nodes = Hosting(resolution.engine), scene.view.nodes
    found = [hosting.option(nodes[name]) for name in tier.nodes if name in nodes]
    sizes = (one for one in found if one is not None)
    return min(sizes, key=lambda one: one.kv_tokens, default=resolution.option)


def _weights(tier: TierPlan, places: Sequence[Copy]) -> dict[str, Any]:
    """Where the weights of a tier are; nothing for one whose weights no Job looks after."""
    engine = tier.course.engine or tier.course.resolution.engine
    mine = [one.data() for one in places if one.tier == tier.name][:MAX_COPIES]
    if engine is None or not (mine or is_fetched(engine)):
        return {}
    return {"weights": {"commit": engine.model_revision, "copies": mine}}


def _tier(scene: Scene, tier: TierPlan) -> dict[str, Any]:
    ready = len(tier.serving)
    requests = tier.growth.record.data(tier.growth.waiting) if tier.growth.policy else None
    asked = {} if requests is None else {"nodeRequests": requests}
    found = tier.fleet
    return asked | {
        "replicas": len((*found.usable, *found.lost, *found.stuck, *found.waiting)),
        "readyReplicas": ready,
        "desiredReplicas": tier.desired,
        "summary": f"{ready}/{tier.desired}",
        "selector": selector_text(tier_selector(scene.owner.name, tier.name)),
        "revision": tier.course.revision,
        "updateAvailable": tier.course.resolution.update,
        "scaledBy": scaled_by(tier.spec),
    }
