"""Labels, names and owner references that every child carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from glm_operator.api import names


@dataclass(frozen=True, slots=True)
class Owner:
    """The GLMDeployment that owns the children."""

    name: str
    namespace: str
    uid: str

    def reference(self) -> dict[str, Any]:
        """The owner reference; `blockOwnerDeletion` false needs no right on the owner."""
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }

    def metadata(self, name: str, component: str, **labels: str) -> dict[str, Any]:
        """The metadata of a child; `labels` are added to the common ones."""
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": common(self.name, component) | labels,
            "ownerReferences": [self.reference()],
        }


def common(deployment: str, component: str) -> dict[str, str]:
    """The labels that every child carries."""
    return {
        "app.kubernetes.io/name": "glm",
        "app.kubernetes.io/instance": deployment,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": deployment,
        "app.kubernetes.io/managed-by": names.MANAGER,
        names.LABEL_DEPLOYMENT: deployment,
    }


def tier_selector(deployment: str, tier: str) -> dict[str, str]:
    """Labels that select every engine pod of one tier, routable or not."""
    return {names.LABEL_DEPLOYMENT: deployment, names.LABEL_TIER: tier}


def gateway_selector(deployment: str) -> dict[str, str]:
    """Labels that select the gateway's pods."""
    return {names.LABEL_DEPLOYMENT: deployment, "app.kubernetes.io/component": "gateway"}


def selector_text(labels: dict[str, str]) -> str:
    """A label selector as text, for status and the scale subresource."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
