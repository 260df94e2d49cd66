"""Which objects may be waiting for GPUs when an operator begins and knows no claims yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from glm_operator.api.enums import Mode
from glm_operator.kube.client import Cluster
from glm_operator.kube.resources import DEPLOYMENT_OBJECT
from glm_operator.runtime.queue import Key


async def call_roll(cluster: Cluster, namespaces: Iterable[str]) -> list[Key]:
    """Objects whose stored status says that they lack something, the oldest first.

    Before these have been planned once, nobody may hand out GPUs that could be theirs.

    Args:
        cluster: the API server.
        namespaces: where the operator's objects are; empty: everywhere.

    Raises:
        KubeError: they could not be listed.
    """
    found = [
        raw
        for namespace in (*namespaces,) or ("",)
        for raw in await cluster.find(DEPLOYMENT_OBJECT, namespace)
        if may_wait(raw)
    ]
    found.sort(key=lambda raw: str(raw["metadata"]["creationTimestamp"]))
    return [(raw["metadata"]["namespace"], raw["metadata"]["name"]) for raw in found]


def may_wait(raw: Mapping[str, Any]) -> bool:
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
