"""The manifests of an object's weights Jobs and node volumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import tolerations
from glm_operator.manifests.weights import (
    COMPILED,
    COPIES,
    JobSetting,
    node_claim,
    node_volume,
    weights_job,
)
from glm_operator.manifests.weights_mount import compile_folder
from glm_operator.manifests.weights_task import WeightsTask
from glm_operator.plan.fetches import Fetches, TierTask, Volume
from glm_operator.plan.observed import JobPhase, Node
from glm_operator.plan.resolve import tolerations_of
from glm_operator.plan.scene import Scene

HOSTNAME = "kubernetes.io/hostname"
"""The label that volumes are bound to nodes by; it may differ from the node's name."""
ENDED = (JobPhase.DONE, JobPhase.FAILED)
CREATED_ONCE = ("Job", "PersistentVolumeClaim")
"""Kinds that cannot be changed: what they are for is in their names."""


def weights_manifests(scene: Scene, wanted: Fetches) -> Iterator[dict[str, Any]]:
    """Volumes first, because Jobs and replicas wait for them."""
    for volume in wanted.volumes:
        node = scene.view.nodes[volume.node]
        for use, keep in _uses(volume, node):
            yield _volume(scene, volume, node, use, keep)
            yield node_claim(scene.owner, volume.node, use)
    jobs: dict[WeightsTask, TierTask] = {}
    for one in wanted.tasks:
        jobs.setdefault(one.task, one)
    for one in jobs.values():
        yield weights_job(scene.owner, one.task, _setting(scene, one))


def spent(scene: Scene) -> set[tuple[str, str]]:
    """Kind and name of what is wanted, and has to go before it can be of use again.

    A claim that somebody deletes goes once no pod uses it, not even one of a Job that is over. Its
    volume takes no other claim, not even one of the same name.
    """
    children = scene.observed.children
    going = {
        name
        for (kind, name), live in children.items()
        if kind == "PersistentVolumeClaim" and "deletionTimestamp" in live["metadata"]
    }
    over = {job.name for job in scene.observed.weights if job.phase in ENDED}
    return {
        (kind, name)
        for (kind, name), live in children.items()
        if (kind == "PersistentVolume" and live.get("status", {}).get("phase") == "Released")
        or (kind == "Job" and name in over and not going.isdisjoint(_claims(live)))
    }


def _claims(job: Mapping[str, Any]) -> Iterator[str]:
    """The claims that a Job's pods use."""
    for volume in job["spec"]["template"]["spec"].get("volumes") or ():
        yield (volume.get("persistentVolumeClaim") or {}).get("claimName", "")


def _uses(volume: Volume, node: Node) -> Iterator[tuple[str, list[str]]]:
    """What a volume of the node is needed for, and what of it is kept."""
    if volume.uri:
        yield volume.uri, []
        return
    yield COPIES, [f"{COPIES}/{key}" for key in volume.keys]
    if volume.engines:
        yield COMPILED, sorted({compile_folder(one, gpu_of(node, one)) for one in volume.engines})


def _volume(
    scene: Scene, volume: Volume, node: Node, use: str, keep: Sequence[str]
) -> dict[str, Any]:
    folder = f"{scene.defaults.node_root.rstrip('/')}/{scene.owner.namespace}"
    path = volume.uri.removeprefix("file://") or folder
    hostname = node.labels.get(HOSTNAME, node.name)
    wanted = node_volume(scene.owner, node.name, hostname, path, keep, use)
    live = scene.observed.children.get(("PersistentVolume", wanted["metadata"]["name"]), {})
    # Neither can be changed: a platform that moves its folder does so for new volumes.
    fixed = {key: live["spec"][key] for key in ("local", "nodeAffinity") if live.get("spec")}
    return wanted | {"spec": wanted["spec"] | fixed}


def gpu_of(node: Node, engine: EngineSpec) -> str:
    """Kind of a node's GPUs, as its labels name it."""
    return gpus.told(node.labels, engine.resource)[0]


def _setting(scene: Scene, one: TierTask) -> JobSetting:
    """A Job of a tier goes where its replicas may go; one of no tier any more stays as it is."""
    spec, defaults = scene.observed.object.spec, scene.defaults
    tier = dict(spec.tiers.items()).get(one.tier)
    placement = None if tier is None else tier.placement
    resource = "" if placement is None else placement.accelerator_resource
    return JobSetting(
        image=defaults.weights_image,
        pull_policy=defaults.image_pull_policy,
        hub_endpoint=defaults.hub_endpoint,
        tolerations=() if tier is None else tolerations(resource, tolerations_of(tier)),
        pull_secrets=spec.image_pull_secrets,
        node_selector=None if placement is None else dict(placement.node_selector),
    )
