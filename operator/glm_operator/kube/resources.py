"""The kinds that the operator touches, and where the API server keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.api import names


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of the API server. `group` is empty for the core group."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`v1` or `<group>/<version>`, as manifests spell it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of a collection (no name), an object, or its subresource."""
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [f"{root}/{self.version}{place}", self.plural, name, subresource]
        return "/".join(part for part in parts if part)


DEPLOYMENT_OBJECT = Resource(names.GROUP, names.VERSION, names.KIND, names.PLURAL)
NODE = Resource("", "v1", "Node", "nodes", namespaced=False)
POD = Resource("", "v1", "Pod", "pods")
SERVICE = Resource("", "v1", "Service", "services")
CONFIG_MAP = Resource("", "v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Resource("", "v1", "ServiceAccount", "serviceaccounts")
DEPLOYMENT = Resource("apps", "v1", "Deployment", "deployments")
CONTROLLER_REVISION = Resource("apps", "v1", "ControllerRevision", "controllerrevisions")
DISRUPTION_BUDGET = Resource("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
ROLE_BINDING = Resource("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings")
PRIORITY_CLASS = Resource(
    "scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False
)
LEASE = Resource("coordination.k8s.io", "v1", "Lease", "leases")
EVENT = Resource("events.k8s.io", "v1", "Event", "events")
RESOURCE_SLICE = Resource(
    "resource.k8s.io", "v1", "ResourceSlice", "resourceslices", namespaced=False
)

JOB = Resource("batch", "v1", "Job", "jobs")
VOLUME_CLAIM = Resource("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PERSISTENT_VOLUME = Resource("", "v1", "PersistentVolume", "persistentvolumes", namespaced=False)

RESOURCE_QUOTA = Resource("", "v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Resource("", "v1", "LimitRange", "limitranges")

CHILDREN = (
    SERVICE,
    CONFIG_MAP,
    SERVICE_ACCOUNT,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    ROLE_BINDING,
    JOB,
    VOLUME_CLAIM,
)
"""Owned kinds that are applied, not created once."""

KNOWN = (
    DEPLOYMENT_OBJECT,
    NODE,
    POD,
    *CHILDREN,
    PERSISTENT_VOLUME,
    CONTROLLER_REVISION,
    LEASE,
    EVENT,
    PRIORITY_CLASS,
    RESOURCE_SLICE,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
)
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in KNOWN}


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The resource that a manifest belongs to.

    Raises:
        KeyError: the kind is not one that the operator manages.
    """
    return _BY_KIND[str(manifest["apiVersion"]), str(manifest["kind"])]
