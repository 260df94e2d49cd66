"""Which objects may be waiting for GPUs when an operator begins and knows no claims yet."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from glm_operator.api.enums import Mode
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import RefusedError
from glm_operator.kube.resources import DEPLOYMENT_OBJECT
from glm_operator.runtime.queue import Key

logger = logging.getLogger(__name__)

Raw = Mapping[str, Any]


async def call_roll(cluster: Cluster, namespaces: Iterable[str]) -> list[Key]:
    """Objects whose stored status says that they lack something, the oldest first.

    Before these have been planned once, nobody may hand out GPUs that could be theirs. A namespace
    that refuses to be read is left out: rights go with a namespace that was deleted, nothing of
    it could be passed, and the others must not wait for it.

    Args:
        cluster: the API server.
        namespaces: where the operator's objects are; empty: everywhere.

    Raises:
        KubeError: they could not be listed, or every namespace refuses.
    """
    places = (*namespaces,) or ("",)
    found: list[Raw] = []
    refused: list[RefusedError] = []
    for namespace in places:
        try:
            found += filter(may_wait, await cluster.find(DEPLOYMENT_OBJECT, namespace))
        except RefusedError as error:
            logger.warning("namespace %s is left out: %s", namespace, error)
            refused.append(error)
    if len(refused) == len(places):
        raise refused[0]
    found.sort(key=lambda raw: str(raw["metadata"]["creationTimestamp"]))
    return [(raw["metadata"]["namespace"], raw["metadata"]["name"]) for raw in found]


def may_wait(raw: Raw) -> bool:
    """Whether an object may lack replicas, as far as its status tells.

    One whose tiers only wish for more than they are promised says so in no field; it claims
    again when it is planned again.
    """
    if raw.get("spec", {}).get("mode") == Mode.PLAN or "deletionTimestamp" in raw["metadata"]:
        return False
    status = raw.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    if any(conditions.get(kind) != "True" for kind in ("Planned", "Ready")):
        return True
    tiers = (status.get("tiers") or {}).values()
    return any(one.get("readyReplicas", 0) < one.get("desiredReplicas", 0) for one in tiers)
