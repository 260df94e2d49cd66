"""Tier Services, disruption budgets and revisions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glm_operator.api import names
from glm_operator.manifests.labels import Owner, tier_selector


def tier_service(owner: Owner, tier: str) -> dict[str, Any]:
    """The headless Service whose EndpointSlices the gateways watch.

    A replica leaves it the moment its `routable` label goes, whatever its kubelet does.
    """
    selector = tier_selector(owner.name, tier) | {names.LABEL_ROUTABLE: "true"}
    port = {"name": "http", "port": names.ENGINE_PORT, "targetPort": "http", "protocol": "TCP"}
    metadata = owner.metadata(names.child(owner.name, tier), "engine", **{names.LABEL_TIER: tier})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": "None", "selector": selector, "ports": [port]},
    }


def disruption_budget(
    owner: Owner, name: str, selector: Mapping[str, str], replicas: int
) -> dict[str, Any]:
    """A budget that lets one of `replicas` go at a time.

    An integer `minAvailable`: for anything else the disruption controller asks the object's one
    `/scale`, which counts flash. A single replica may go, else its node could never be drained.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(name, "policy"),
        "spec": {
            "minAvailable": max(0, replicas - 1),
            "selector": {"matchLabels": dict(selector)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def controller_revision(
    owner: Owner, tier: str, revision: str, suffix: str, number: int, data: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of what a tier resolved to. Its data never changes once written."""
    labels = {names.LABEL_TIER: tier, names.LABEL_REVISION: revision}
    name = f"{names.child(owner.name, tier)}-{revision}-{suffix}"
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": owner.metadata(name, "engine", **labels),
        "revision": number,
        "data": dict(data),
    }
