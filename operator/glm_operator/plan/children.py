"""The objects beside the pods: Services, budgets, revisions, and everything of the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glm_operator import catalog
from glm_operator.api import names
from glm_operator.api.enums import AllowHTTP, Mode
from glm_operator.api.tier import FlashTier
from glm_operator.manifests import gateway, services
from glm_operator.manifests.applied import is_applied, stamped
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.labels import gateway_selector, tier_selector
from glm_operator.plan import access
from glm_operator.plan.actions import Apply, DeleteChild
from glm_operator.plan.fetches import Fetches
from glm_operator.plan.observed import Revision
from glm_operator.plan.resolve import read_record
from glm_operator.plan.scene import Scene
from glm_operator.plan.tier import TierPlan
from glm_operator.plan.weights_children import CREATED_ONCE, spent, weights_manifests

GATEWAYS = f"{names.MANAGER}-gateway"
SERVICES = f"{names.MANAGER}-services"
POLICIES = f"{names.MANAGER}-policies"
WEIGHTS = f"{names.MANAGER}-weights"
"""One field manager per concern, so that none takes away what another set."""

DEFAULT_HOLD_SECONDS = 300
"""How long requests wait for a tier that never sleeps by choice."""
KEPT_REVISIONS = 5
"""Records per tier that are kept for going back, besides those in use."""


def applies(scene: Scene, tiers: Sequence[TierPlan], wanted: Fetches) -> list[Apply]:
    """What has to be written. Of an object of which nothing may run only weights are looked at."""
    runs = any(tier.course.engine or tier.fleet.all for tier in tiers)
    parts = (*(_desired(scene, tiers) if runs else ()), *_weights(scene, wanted))
    found = [Apply(manifest, manager) for manifest, manager in parts if _is_due(scene, manifest)]
    return [*found, *(_records(scene, tiers) if runs else ())]


def _is_due(scene: Scene, manifest: dict[str, Any]) -> bool:
    """Whether a child has to be written."""
    kind = manifest["kind"]
    present = scene.observed.children.get((kind, manifest["metadata"]["name"]))
    # What runs keeps its copies while it is paused too, and a copy that comes then is one of them.
    frozen = scene.mode is Mode.PAUSED and kind != "PersistentVolume"
    if present and (frozen or kind in CREATED_ONCE):
        return False
    return not is_applied(manifest, present)


def _weights(scene: Scene, wanted: Fetches) -> Iterator[tuple[dict[str, Any], str]]:
    for manifest in weights_manifests(scene, wanted):
        yield stamped(manifest), WEIGHTS


def _desired(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[tuple[dict[str, Any], str]]:
    owner, spec = scene.owner, scene.observed.object.spec
    for tier in tiers:
        budget = services.disruption_budget(
            owner,
            names.child(owner.name, tier.name),
            tier_selector(owner.name, tier.name),
            tier.desired,
        )
        yield stamped(services.tier_service(owner, tier.name)), SERVICES
        yield stamped(budget), POLICIES
    yield stamped(gateway.service_account(owner)), GATEWAYS
    yield stamped(gateway.role_binding(owner)), GATEWAYS
    if access.keys_readable(scene):
        yield stamped(gateway.keys_role_binding(owner)), GATEWAYS
    yield stamped(gateway.config_map(owner, routing(scene, tiers))), GATEWAYS
    yield stamped(gateway.service(owner, spec.gateway.service.type.value)), GATEWAYS
    pods = gateway.GatewayPods(
        scene.defaults.gateway_image,
        scene.defaults.image_pull_policy,
        spec.gateway.replicas,
        spec.image_pull_secrets,
    )
    yield stamped(gateway.deployment(owner, pods)), GATEWAYS
    selector = gateway_selector(owner.name)
    budget = services.disruption_budget(
        owner, gateway.gateway_name(owner), selector, spec.gateway.replicas
    )
    yield stamped(budget), POLICIES


def routing(scene: Scene, tiers: Sequence[TierPlan]) -> gateway.GatewayConfig:
    """The gateways' configuration. Its generation is that of the last edit that changed it."""
    wanted = _config(scene, tiers)
    live = live_routing(scene)
    same = live == gateway.config_document(scene.owner, wanted) | {
        "generation": live.get("generation")
    }
    return replace(wanted, generation=int(live["generation"])) if same else wanted


def live_routing(scene: Scene) -> Mapping[str, Any]:
    """The configuration that the gateways watch now; empty where there is none to read."""
    name = gateway.gateway_name(scene.owner)
    data = scene.observed.children.get(("ConfigMap", name), {}).get("data") or {}
    try:
        found = json.loads(data.get(names.GATEWAY_CONFIG_KEY, ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def waiting_edits(scene: Scene, tiers: Sequence[TierPlan]) -> tuple[str, ...]:
    """Parts of the spec that differ from what is in effect beside the pods, while Paused."""
    spec, name = scene.observed.object.spec, gateway.gateway_name(scene.owner)
    wanted = gateway.config_document(scene.owner, _config(scene, tiers))
    changed = {
        key for key, value in live_routing(scene).items() if wanted.get(key, value) != value
    } - {"generation"}
    deployment = scene.observed.children.get(("Deployment", name), {}).get("spec") or {}
    service = scene.observed.children.get(("Service", name), {}).get("spec") or {}
    of_gateway = (
        deployment.get("replicas", spec.gateway.replicas) != spec.gateway.replicas
        or service.get("type", spec.gateway.service.type) != spec.gateway.service.type
    )
    return (*sorted(changed), *(["gateway"] if of_gateway else []))


def _config(scene: Scene, tiers: Sequence[TierPlan]) -> gateway.GatewayConfig:
    spec = scene.observed.object.spec
    limits = spec.gateway.limits
    return gateway.GatewayConfig(
        generation=scene.observed.generation,
        auto_model=spec.routing.auto_model,
        quality_tolerance_points=spec.routing.quality_tolerance_points,
        degradation=spec.routing.degradation.value,
        rules=tuple(
            rule.model_dump(mode="json", by_alias=True) for rule in spec.routing.tier_rules
        ),
        max_body_bytes=limits.max_body_bytes,
        max_in_flight_bytes=limits.max_in_flight_bytes,
        max_held_requests=limits.max_held_requests,
        media_domains=_media_domains(scene, tiers),
        allow_http=spec.gateway.media.allow_http is AllowHTTP.ENABLED,
        api_keys_secret=spec.gateway.auth.api_keys_secret_ref,
        aliases={name: target.value for name, target in spec.gateway.model_aliases.items()},
        tiers={tier.name: _route(scene, tier) for tier in tiers},
    )


def _media_domains(scene: Scene, tiers: Sequence[TierPlan]) -> tuple[str, ...]:
    """The hosts that every engine which may get an image knows: a rollout adds one at its end."""
    allowed = set(scene.observed.object.spec.gateway.media.allowed_domains)
    for tier in tiers:
        for engine in _engines(scene, tier):
            if engine.sees:
                allowed &= set(engine.media_domains)
    return tuple(sorted(allowed))


def _route(scene: Scene, tier: TierPlan) -> gateway.TierRoute:
    """What every replica that serves can take: the least of their revisions."""
    model = catalog.get(tier.spec.model.preset)
    engines = _engines(scene, tier)
    fallback = tier.spec.context.max_model_len or model.max_context_tokens
    return gateway.TierRoute(
        model=model.served_name,
        context_tokens=min((one.max_model_len for one in engines), default=fallback),
        max_images=min((one.max_images for one in engines), default=tier.spec.max_images),
        max_videos=min((one.max_videos for one in engines), default=tier.spec.max_videos),
        hold_timeout_seconds=_hold_seconds(tier),
        service=names.child(scene.owner.name, tier.name),
        joining=_is_joining(scene, tier),
    )


def _is_joining(scene: Scene, tier: TierPlan) -> bool:
    """Whether a tier that was added while others served waits for its first replica.

    Its weights take minutes to an hour: until then the gateways choose as before. Once it has
    served it stays, and what needs it is held for it like for any tier.
    """
    known = live_routing(scene).get("tiers")
    before = known.get(tier.name, {"joining": True}) if known else {}
    if scene.mode is Mode.PAUSED:
        return bool(before.get("joining"))
    return bool(before.get("joining")) and not tier.serving and tier.desired > 0


def _engines(scene: Scene, tier: TierPlan) -> list[EngineSpec]:
    """The revisions that serve, else the wanted one; none where nothing may run."""
    serving = {one.revision for one in tier.serving}
    engines = [
        read_record(one)[0]
        for one in scene.observed.revisions
        if one.tier == tier.name and one.hash in serving
    ]
    wanted = [] if tier.course.engine is None else [tier.course.engine]
    return engines or wanted


def _hold_seconds(tier: TierPlan) -> int:
    if isinstance(tier.spec, FlashTier):
        return tier.spec.scaling.scale_to_zero.hold_timeout_seconds
    return DEFAULT_HOLD_SECONDS


def _records(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[Apply]:
    """The record of what a tier was resolved to, written before the first pod of it."""
    for tier in tiers:
        resolution = tier.course.resolution
        acted_on = tier.course.engine is not None and tier.course.engine == resolution.engine
        if resolution.recorded or not acted_on or scene.mode is not Mode.LIVE:
            continue
        mine = [one.number for one in scene.observed.revisions if one.tier == tier.name]
        manifest = services.controller_revision(
            scene.owner,
            tier.name,
            resolution.revision,
            record_suffix(resolution.inputs),
            max(mine, default=0) + 1,
            resolution.record(),
        )
        yield Apply(manifest, SERVICES)


def record_suffix(inputs: str) -> str:
    """Two inputs may come to the same revision; each has its own record."""
    return inputs[:8]


def deletions(scene: Scene, tiers: Sequence[TierPlan], fetches: Fetches) -> list[DeleteChild]:
    """Children that the object no longer asks for, and records too old to go back to."""
    if scene.mode is not Mode.LIVE:
        return _superseded(scene) if scene.mode is Mode.PAUSED else []
    parts = (*_desired(scene, tiers), *_weights(scene, fetches))
    wanted = {
        (manifest["kind"], manifest["metadata"]["name"])
        for manifest, _ in parts
        if not _is_outdated(scene, manifest)
    }
    wanted -= spent(scene)
    stale = [
        DeleteChild(str(live["apiVersion"]), kind, name)
        for (kind, name), live in sorted(scene.observed.children.items())
        if (kind, name) not in wanted
    ]
    return [*stale, *_old_records(scene, tiers)]


def _superseded(scene: Scene) -> list[DeleteChild]:
    """Weights Jobs after which another try came."""
    newest = {job.name for job in scene.stock.jobs}
    old = (one for one in scene.observed.weights if one.name not in newest)
    return [DeleteChild("batch/v1", "Job", one.name) for one in old if not one.terminating]


def _is_outdated(scene: Scene, manifest: dict[str, Any]) -> bool:
    """Whether a Job whose pod cannot start would be made otherwise now: of another image, say.

    Nothing of a Job can be changed. It is deleted, and the next pass makes it.
    """
    name = manifest["metadata"]["name"]
    blocked = {one.name for one in scene.stock.jobs if scene.stock.blocked(one)}
    if manifest["kind"] != "Job" or name not in blocked:
        return False
    return not is_applied(manifest, scene.observed.children.get(("Job", name)))


def _old_records(scene: Scene, tiers: Sequence[TierPlan]) -> Iterator[DeleteChild]:
    in_use = {one.revision for one in scene.observed.replicas}
    in_use |= {tier.course.revision for tier in tiers} | {
        tier.course.resolution.revision for tier in tiers
    }
    by_tier: dict[str, list[Revision]] = {}
    for one in scene.observed.revisions:
        by_tier.setdefault(one.tier, []).append(one)
    present = {tier.name for tier in tiers}
    for name, records in sorted(by_tier.items()):
        newest = sorted(records, key=lambda one: -one.number)
        kept = KEPT_REVISIONS if name in present else 0
        for one in newest[kept:]:
            if one.hash not in in_use:
                yield DeleteChild("apps/v1", "ControllerRevision", one.name)
