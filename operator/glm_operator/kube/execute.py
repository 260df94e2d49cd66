"""Carry out a plan's actions in order; stop at the first error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import (
    EXCEEDED_QUOTA,
    AlreadyExistsError,
    CapacityGoneError,
    ConflictError,
    ForeignObjectError,
    NotFoundError,
    RefusedError,
    SuccessorRefusedError,
)
from glm_operator.kube.resources import NODE, POD, Resource, resource_of
from glm_operator.plan.actions import (
    Action,
    Apply,
    CreatePod,
    DeleteChild,
    DeletePod,
    PatchPod,
    TryPod,
)
from glm_operator.plan.observed import Node

logger = logging.getLogger(__name__)

UNFINISHED = "status.phase!=Failed,status.phase!=Succeeded"
OURS = f"{names.LABEL_DEPLOYMENT},{names.LABEL_TIER}"


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that the actions are for."""

    namespace: str
    name: str
    uid: str


class Executor:
    """Carries out actions for one object after another.

    Args:
        cluster: the API server.
        created: told of every pod that was created, before the next action.
    """

    def __init__(
        self, cluster: Cluster, created: Callable[[Mapping[str, Any]], None] = lambda pod: None
    ) -> None:
        self._cluster = cluster
        self._created = created

    async def execute(self, owner: Owner, actions: Sequence[Action]) -> None:
        """Carry out the actions in order.

        Raises:
            KubeError: the first one that failed; those after it were not tried.
        """
        for action in actions:
            logger.info("%s/%s: %s", owner.namespace, owner.name, describe(action))
            match action:
                case CreatePod():
                    await self._create_pod(owner, action)
                case TryPod():
                    await self._try_pod(action)
                case DeletePod():
                    await self._delete_pod(owner, action)
                case PatchPod():
                    await self._patch_pod(owner, action)
                case Apply():
                    await self._apply(owner, action)
                case DeleteChild():
                    await self._delete_child(owner, action)

    async def _create_pod(self, owner: Owner, action: CreatePod) -> None:
        if action.node and action.gpus:
            await self._check_room(action)
        try:
            pod = await self._cluster.create(action.manifest)
        except AlreadyExistsError:
            # Our own earlier attempt, whose answer or whose process was lost.
            pod = await self._own_pod(owner, action.manifest["metadata"]["name"])
        self._created(pod)

    async def _try_pod(self, action: TryPod) -> None:
        try:
            await self._cluster.create(action.manifest, dry_run=True)
        except AlreadyExistsError:
            logger.info("pod %s exists by now", action.manifest["metadata"]["name"])
        except RefusedError as error:
            # Quotas are asked last. The plan has counted what becomes free of them.
            if EXCEEDED_QUOTA not in str(error):
                raise SuccessorRefusedError(str(error), status=error.status) from error

    async def _check_room(self, action: CreatePod) -> None:
        """Look at the node live: the inventory may be behind what other schedulers did."""
        node = await live_node(self._cluster, action.node)
        held = sum(hold.count for hold in node.holds if hold.resource == action.resource)
        free = node.allocatable.get(action.resource, 0) - held
        if free < action.gpus:
            raise CapacityGoneError(
                f"node {node.name} has {max(0, free)} free {action.resource} and no longer "
                f"the {action.gpus} that were planned for; planning again"
            )

    async def _own_pod(self, owner: Owner, name: str) -> dict[str, Any]:
        pod = await self._cluster.get(POD, owner.namespace, name)
        if convert.is_owned(pod, owner.uid) and "deletionTimestamp" not in pod["metadata"]:
            return pod
        raise ConflictError(
            f"pod {owner.namespace}/{name} exists and is terminating or not of this "
            "GLMDeployment; another name is planned"
        )

    async def _delete_pod(self, owner: Owner, action: DeletePod) -> None:
        try:
            await self._cluster.delete(
                POD,
                owner.namespace,
                action.name,
                uid=action.uid,
                grace_seconds=action.grace_seconds,
            )
        except ConflictError:
            # Another pod has the name now, so the one that was meant is gone.
            logger.info("pod %s/%s was replaced already", owner.namespace, action.name)

    async def _patch_pod(self, owner: Owner, action: PatchPod) -> None:
        metadata: dict[str, Any] = {"uid": action.uid}
        if action.labels:
            metadata["labels"] = dict(action.labels)
        if action.annotations:
            metadata["annotations"] = dict(action.annotations)
        try:
            await self._cluster.patch(POD, owner.namespace, action.name, {"metadata": metadata})
        except (NotFoundError, ConflictError):
            # It went meanwhile, so nothing routes to it; what the plan wants instead comes next.
            logger.info("pod %s/%s is gone already", owner.namespace, action.name)

    async def _apply(self, owner: Owner, action: Apply) -> None:
        resource = resource_of(action.manifest)
        name = action.manifest["metadata"]["name"]
        await self._refuse_foreign(owner, resource, name)
        await self._cluster.apply(action.manifest, action.manager)

    async def _refuse_foreign(self, owner: Owner, resource: Resource, name: str) -> None:
        """A forced apply would take over an object that somebody else made under our name."""
        try:
            live = await self._cluster.get(resource, owner.namespace, name)
        except NotFoundError:
            return
        if not belongs(live, owner):
            raise ForeignObjectError(
                f"{resource.kind} {owner.namespace}/{name} exists and does not belong to "
                f"{names.KIND} {owner.name}: delete it, or name the {names.KIND} differently"
            )

    async def _delete_child(self, owner: Owner, action: DeleteChild) -> None:
        resource = resource_of({"apiVersion": action.api_version, "kind": action.kind})
        try:
            live = await self._cluster.get(resource, owner.namespace, action.name)
        except NotFoundError:
            return
        if convert.is_owned(live, owner.uid):
            uid = live["metadata"]["uid"]
            await self._cluster.delete(resource, owner.namespace, action.name, uid=uid)


async def live_node(cluster: Cluster, name: str) -> Node:
    """One node and what is held on it, read now."""
    try:
        node, bound, pinned = await asyncio.gather(
            cluster.get(NODE, "", name),
            cluster.find(POD, fields=f"spec.nodeName={name},{UNFINISHED}"),
            cluster.find(POD, labels=OURS, fields=f"spec.nodeName=,{UNFINISHED}"),
        )
    except NotFoundError as error:
        raise CapacityGoneError(f"node {name} is gone; planning again") from error
    return convert.nodes_of([node], [*bound, *pinned])[0]


def belongs(live: Mapping[str, Any], owner: Owner) -> bool:
    """Whether an object is ours, or was left by an earlier object of the same name."""
    if convert.is_owned(live, owner.uid):
        return True
    references = live["metadata"].get("ownerReferences") or ()
    return any(
        ref.get("controller") and ref.get("kind") == names.KIND and ref.get("name") == owner.name
        for ref in references
    )


def describe(action: Action) -> str:
    """One action as a line of the log."""
    match action:
        case CreatePod():
            name = action.manifest["metadata"]["name"]
            return f"create pod {name} on {action.node or 'any node'} ({action.gpus} GPUs)"
        case TryPod():
            return f"try pod {action.manifest['metadata']['name']}"
        case DeletePod():
            return f"delete pod {action.name}: {action.why}"
        case PatchPod():
            changes = {**action.labels, **action.annotations}
            return f"patch pod {action.name}: {changes}"
        case Apply():
            return f"apply {action.manifest['kind']} {action.manifest['metadata']['name']}"
        case DeleteChild():
            return f"delete {action.kind} {action.name}"
