"""The gateway: its Deployment, Service, rights and configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glm_operator.api import names
from glm_operator.manifests.labels import Owner, gateway_selector

CONFIG_VERSION = 1
SERVICE_PORT = 80
GATEWAY_USER = 10001
GRACE_SECONDS = 330
"""Longer than an engine's own grace, so that a gateway outlives the streams it relays."""
PRE_STOP_SECONDS = 5
"""What kube-proxy and load balancers need to stop sending new connections."""


@dataclass(frozen=True, slots=True)
class TierRoute:
    """What the gateway is told of one tier."""

    model: str
    context_tokens: int
    max_images: int
    max_videos: int
    hold_timeout_seconds: int
    service: str
    joining: bool = False
    """It was added to an object that serves and has not served yet; only who names it waits."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The gateway's configuration, shared with the serving package as JSON only."""

    generation: int
    auto_model: str
    quality_tolerance_points: int
    max_body_bytes: int
    max_in_flight_bytes: int
    max_held_requests: int
    media_domains: tuple[str, ...] = ()
    """Hosts of media by URL that every engine with vision knows."""
    allow_http: bool = False
    degradation: str = "Hold"
    rules: tuple[Mapping[str, Any], ...] = ()
    """In the form in which the gateway reads them."""
    api_keys_secret: str = ""
    """Name of the Secret with the keys of clients; empty: anyone may come."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    tiers: Mapping[str, TierRoute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayPods:
    """What the gateway's Deployment is made of."""

    image: str
    image_pull_policy: str
    replicas: int
    image_pull_secrets: tuple[str, ...] = ()


def config_document(owner: Owner, config: GatewayConfig) -> dict[str, Any]:
    """The configuration as the gateway reads it."""
    return {
        "version": CONFIG_VERSION,
        "deployment": owner.name,
        "namespace": owner.namespace,
        "generation": config.generation,
        "autoModel": config.auto_model,
        "aliases": dict(sorted(config.aliases.items())),
        "qualityTolerancePoints": config.quality_tolerance_points,
        "rules": [dict(rule) for rule in config.rules],
        "degradation": config.degradation,
        "tiers": {tier: _route(route) for tier, route in sorted(config.tiers.items())},
        "limits": {
            "maxBodyBytes": config.max_body_bytes,
            "maxInFlightBytes": config.max_in_flight_bytes,
            "maxHeldRequests": config.max_held_requests,
        },
        "media": {
            "allowedDomains": sorted(config.media_domains),
            "allowHTTP": config.allow_http,
        },
        "auth": {"apiKeysSecret": config.api_keys_secret},
        "gatewayService": gateway_name(owner),
    }


def _route(route: TierRoute) -> dict[str, Any]:
    return {
        "model": route.model,
        "contextTokens": route.context_tokens,
        "maxImages": route.max_images,
        "maxVideos": route.max_videos,
        "holdTimeoutSeconds": route.hold_timeout_seconds,
        "joining": route.joining,
        "service": route.service,
        "endpoints": [],
    }


def gateway_name(owner: Owner) -> str:
    """The name shared by everything that belongs to the gateway."""
    return names.child(owner.name, "gateway")


def config_map(owner: Owner, config: GatewayConfig) -> dict[str, Any]:
    """The ConfigMap that the gateways watch; it is not mounted, so a change restarts nothing."""
    text = json.dumps(config_document(owner, config), indent=2)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(gateway_name(owner), "gateway"),
        "data": {names.GATEWAY_CONFIG_KEY: text},
    }


def service_account(owner: Owner) -> dict[str, Any]:
    """The account under which the gateways watch their configuration and endpoints."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(gateway_name(owner), "gateway"),
    }


def role_binding(owner: Owner) -> dict[str, Any]:
    """Lets the gateways read their configuration and endpoints, in this namespace only."""
    return _binding(owner, gateway_name(owner), names.GATEWAY_CLUSTER_ROLE)


def keys_role_binding(owner: Owner) -> dict[str, Any]:
    """Lets the gateways read the Secrets of keys that the chart names, in this namespace only."""
    name = names.child(owner.name, "gateway-keys")
    return _binding(owner, name, names.GATEWAY_KEYS_CLUSTER_ROLE)


def _binding(owner: Owner, name: str, role: str) -> dict[str, Any]:
    account = gateway_name(owner)
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": owner.metadata(name, "gateway"),
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": owner.namespace}],
    }


def service(owner: Owner, service_type: str) -> dict[str, Any]:
    """The Service that clients use."""
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(gateway_name(owner), "gateway"),
        "spec": {
            "type": service_type,
            "selector": gateway_selector(owner.name),
            "ports": [port],
        },
    }


def service_url(owner: Owner) -> str:
    """The address of the gateway inside the cluster, as the openai package wants it."""
    return f"http://{gateway_name(owner)}.{owner.namespace}.svc/v1"


def deployment(owner: Owner, pods: GatewayPods) -> dict[str, Any]:
    """The gateway's Deployment. Nothing in its template follows a Live field of the object."""
    metadata = owner.metadata(gateway_name(owner), "gateway")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": pods.replicas,
            "selector": {"matchLabels": gateway_selector(owner.name)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "template": {
                "metadata": {"labels": dict(metadata["labels"])},
                "spec": _pod_spec(owner, pods),
            },
        },
    }


def _pod_spec(owner: Owner, pods: GatewayPods) -> dict[str, Any]:
    spec = {
        "serviceAccountName": gateway_name(owner),
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": GATEWAY_USER,
            "runAsGroup": GATEWAY_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(owner, pods)],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
        "affinity": {"podAntiAffinity": _spread(owner)},
    }
    if pods.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in pods.image_pull_secrets]
    return spec


def _container(owner: Owner, pods: GatewayPods) -> dict[str, Any]:
    command = ["glm-gateway", "--kubernetes-configmap", gateway_name(owner)]
    return {
        "name": "gateway",
        "image": pods.image,
        "imagePullPolicy": pods.image_pull_policy,
        "command": [*command, "--namespace", owner.namespace],
        "ports": [
            {"name": "http", "containerPort": names.GATEWAY_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": names.GATEWAY_ADMIN_PORT, "protocol": "TCP"},
        ],
        # No memory limit: what a gateway holds is bounded by limits.maxInFlightBytes, a Live
        # field, and a limit that followed it would restart every gateway on an edit.
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        **_probes(),
    }


def _probes() -> dict[str, Any]:
    live = {"httpGet": {"path": "/healthz", "port": "admin"}}
    ready = {"httpGet": {"path": "/readyz", "port": "admin"}}
    return {
        "startupProbe": live | {"periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60},
        "livenessProbe": live | {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": ready | {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 2},
    }


def _spread(owner: Owner) -> dict[str, Any]:
    term = {
        "labelSelector": {"matchLabels": gateway_selector(owner.name)},
        "topologyKey": "kubernetes.io/hostname",
    }
    weighted = {"weight": 100, "podAffinityTerm": term}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [weighted]}
