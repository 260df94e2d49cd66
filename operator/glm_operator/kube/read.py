"""Read one object and everything it owns, live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube import convert
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import NotFoundError, RefusedError
from glm_operator.kube.limits import limits_of
from glm_operator.kube.resources import (
    CHILDREN,
    CONTROLLER_REVISION,
    DEPLOYMENT_OBJECT,
    JOB,
    LIMIT_RANGE,
    PERSISTENT_VOLUME,
    POD,
    RESOURCE_QUOTA,
    RESOURCE_SLICE,
    VOLUME_CLAIM,
)
from glm_operator.kube.weights import weights_jobs
from glm_operator.manifests.gateway import gateway_name
from glm_operator.manifests.labels import Owner
from glm_operator.plan import times
from glm_operator.plan.dra import drivers_to_ask_for
from glm_operator.plan.observed import Observed
from glm_operator.plan.quota import Limits

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """Where a gateway's second port is."""

    name: str
    ip: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read. `observed` lacks what is not read here: nodes, gateways, memory."""

    observed: Observed
    gateways: tuple[GatewayPod, ...] = ()


async def read_object(cluster: Cluster, namespace: str, name: str) -> dict[str, Any] | None:
    """The GLMDeployment as stored, None when it does not exist."""
    try:
        return await cluster.get(DEPLOYMENT_OBJECT, namespace, name)
    except NotFoundError:
        return None


async def read_owned(cluster: Cluster, raw: Mapping[str, Any]) -> Reading:
    """The object with its pods, revisions and children.

    Lists by label, not by a cache: no decision is made on what was true a moment ago.

    Raises:
        glm_operator.api.v1alpha1.InvalidObject: the object does not follow the schema.
    """
    parsed = GLMDeployment.parse(raw)
    metadata = raw["metadata"]
    labels, uid = f"{names.LABEL_DEPLOYMENT}={metadata['name']}", metadata["uid"]
    kinds = (POD, CONTROLLER_REVISION, *CHILDREN)
    limits, volumes, pods, revisions, *children = await asyncio.gather(
        read_limits(cluster, metadata["namespace"]),
        _volumes_in_use(cluster, parsed, uid),
        *(cluster.find(kind, metadata["namespace"], labels=labels) for kind in kinds),
    )
    by_kind = dict(zip(CHILDREN, children, strict=True))
    if not volumes and any(convert.is_owned(item, uid) for item in by_kind[VOLUME_CLAIM]):
        # Left by weights that lay on nodes before the object was changed.
        volumes = await read_volumes(cluster, uid)
    observed = Observed(
        object=parsed,
        uid=uid,
        generation=metadata.get("generation", 0),
        status=raw.get("status") or {},
        replicas=tuple(convert.replica_of(pod, uid) for pod in pods if convert.is_engine(pod)),
        revisions=tuple(
            convert.revision_of(item) for item in revisions if convert.is_owned(item, uid)
        ),
        weights=weights_jobs(by_kind[JOB], pods, uid),
        children={
            (kind.kind, item["metadata"]["name"]): {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                **item,
            }
            for kind, items in (*by_kind.items(), (PERSISTENT_VOLUME, volumes))
            for item in items
            if convert.is_owned(item, uid)
        },
        limits=limits,
        deleting="deletionTimestamp" in metadata,
        created_at=times.from_text(metadata["creationTimestamp"]),
    )
    return Reading(observed, gateway_pods(pods, observed))


async def _volumes_in_use(
    cluster: Cluster, parsed: GLMDeployment, uid: str
) -> list[dict[str, Any]]:
    """The node volumes of an object, where its weights may lie on nodes as its tiers are now."""
    tiers = [tier for _, tier in parsed.spec.tiers.items()]
    if not any(tier.model.uri.startswith(("hf://", "file://")) for tier in tiers):
        return []
    return await read_volumes(cluster, uid)


async def read_volumes(cluster: Cluster, uid: str) -> list[dict[str, Any]]:
    """The node volumes of an object."""
    try:
        return await cluster.find(PERSISTENT_VOLUME, labels=f"{names.LABEL_OWNER}={uid}")
    except RefusedError as error:
        # A platform that keeps no weights on its nodes gives no right to look at volumes.
        logger.debug("%s", error)
        return []


async def read_limits(cluster: Cluster, namespace: str) -> Limits:
    """What a namespace allows."""
    quotas, ranges = await asyncio.gather(
        cluster.find(RESOURCE_QUOTA, namespace), cluster.find(LIMIT_RANGE, namespace)
    )
    return limits_of(quotas, ranges)


async def read_drivers(cluster: Cluster, observed: Observed) -> frozenset[str]:
    """Drivers that offer GPUs by dynamic resource allocation, of those that matter to a tier.

    Nothing is asked where nodes offer what the tiers want. A cluster whose API has no
    ResourceSlices, or does not show them, has none that could be told of.
    """
    asked = sorted(drivers_to_ask_for(observed))
    try:
        found = await asyncio.gather(
            *(cluster.find(RESOURCE_SLICE, fields=f"spec.driver={driver}") for driver in asked)
        )
    except (NotFoundError, RefusedError) as error:
        logger.info("%s", error)
        return frozenset()
    return frozenset(driver for driver, slices in zip(asked, found, strict=True) if slices)


def gateway_pods(pods: Iterable[Mapping[str, Any]], observed: Observed) -> tuple[GatewayPod, ...]:
    """The gateways of an object that can be asked, by name.

    Anybody in the namespace may label a pod. These belong to the Deployment that we own, by the
    name and label that the Deployment's controller gives its ReplicaSets.
    """
    owner = Owner(observed.object.name, observed.object.namespace, observed.uid)
    deployment = gateway_name(owner)
    if ("Deployment", deployment) not in observed.children:
        return ()
    found = (
        GatewayPod(pod["metadata"]["name"], pod["status"]["podIP"])
        for pod in pods
        if _is_of(pod, deployment)
        and pod.get("status", {}).get("podIP")
        and pod["status"].get("phase") == "Running"
    )
    return tuple(sorted(found, key=lambda pod: pod.name))


def _is_of(pod: Mapping[str, Any], deployment: str) -> bool:
    """Whether a pod is controlled by a ReplicaSet of the Deployment of that name."""
    metadata = pod["metadata"]
    template = (metadata.get("labels") or {}).get("pod-template-hash", "")
    return any(
        ref.get("controller")
        and ref.get("kind") == "ReplicaSet"
        and ref.get("name") == f"{deployment}-{template}"
        for ref in metadata.get("ownerReferences") or ()
    )
