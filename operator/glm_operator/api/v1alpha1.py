"""GLMDeployment, version v1alpha1: the only source of the CRD and of the API reference.

Every docstring below a field is that field's description. It ends with what an edit does:
`Live.` is applied without touching an engine pod, `RestartsTier.` replaces the tier's pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from glm_operator.api import gateway_rules, names, rules
from glm_operator.api.enums import (
    AliasTarget,
    AllowHTTP,
    Expert,
    KVCacheDType,
    Mode,
    Pinning,
    Quantization,
    ScalingMode,
    ServiceType,
    TaintEffect,
    Thinking,
    TolerationOperator,
)
from glm_operator.api.errors import InvalidObject, read
from glm_operator.api.fields import SET, DnsName, EachOnce, MediaDomain, NodeName
from glm_operator.api.model import Model, Rule
from glm_operator.api.routing import Routing
from glm_operator.api.tier import AnyTier, FlagshipTier, FlashTier, TextTier, Tier

__all__ = [
    "AliasTarget",
    "Expert",
    "FlagshipTier",
    "FlashTier",
    "GLMDeployment",
    "InvalidObject",
    "KVCacheDType",
    "Mode",
    "Pinning",
    "Quantization",
    "ScalingMode",
    "ServiceType",
    "TaintEffect",
    "TextTier",
    "Thinking",
    "Tier",
    "TolerationOperator",
]


class Tiers(Model):
    """The tiers of the stack; at least one."""

    rules: ClassVar[tuple[Rule, ...]] = rules.TIERS

    flagship: FlagshipTier | None = None
    """The tier for work where accuracy counts. Adding or removing it leaves the others alone.
    Live."""
    flash: FlashTier | None = None
    """The tier for most daily work. Adding or removing it leaves the others alone. Live."""
    text: TextTier | None = None
    """The tier for work without images. Adding or removing it leaves the others alone. Live."""

    def items(self) -> tuple[tuple[str, AnyTier], ...]:
        """(name, tier) of every tier that the object has, in the order in which users see them."""
        every = (
            (names.FLAGSHIP, self.flagship),
            (names.FLASH, self.flash),
            (names.TEXT, self.text),
        )
        return tuple((name, tier) for name, tier in every if tier is not None)


class GatewayService(Model):
    """The Service in front of the gateway."""

    type: ServiceType = ServiceType.CLUSTER_IP
    """How far the gateway can be reached. Live."""


class GatewayLimits(Model):
    """What one gateway pod accepts at the same time."""

    rules: ClassVar[tuple[Rule, ...]] = gateway_rules.LIMITS

    max_body_bytes: int = Field(default=67_108_864, ge=1024, le=1_073_741_824)
    """Largest request body in bytes. Live."""
    max_in_flight_bytes: int = Field(default=1_073_741_824, ge=1024, le=68_719_476_736)
    """Bytes of request bodies that one gateway pod keeps at the same time. Live."""
    max_held_requests: int = Field(default=512, ge=0, le=100_000)
    """Requests that one gateway pod holds for one tier while no replica of it is ready. Live."""


class GatewayMedia(Model):
    """Which images and videos clients may name by URL. Bytes in data URLs always pass."""

    allowed_domains: Annotated[tuple[MediaDomain, ...], EachOnce] = Field(
        default=(), max_length=64, json_schema_extra=SET
    )
    """Hosts that such a URL may name, each as a whole and without its subdomains. The engines
    with vision fetch from these and no others; without any they fetch nothing. RestartsTier."""
    allow_http: AllowHTTP = Field(default=AllowHTTP.DISABLED, alias="allowHTTP")
    """Whether such a URL may be http instead of https. Live."""


class GatewayAuth(Model):
    """Who may use the gateway."""

    api_keys_secret_ref: DnsName = ""
    """Name of the Secret of the namespace with the API keys of clients; empty: anyone may come.
    The platform says which names it may have. Live."""


class Gateway(Model):
    """The OpenAI-compatible gateway."""

    rules: ClassVar[tuple[Rule, ...]] = gateway_rules.GATEWAY

    replicas: int = Field(default=1, ge=1, le=64)
    """Number of gateway pods. Live."""
    model_aliases: dict[str, AliasTarget] = Field(default={}, max_length=64)
    """Further model names that clients may send, each for auto or a tier. Live."""
    service: GatewayService = GatewayService()
    """The Service in front of the gateway. Live."""
    auth: GatewayAuth = GatewayAuth()
    """Who may use the gateway. Live."""
    limits: GatewayLimits = GatewayLimits()
    """What one gateway pod accepts at the same time. Live."""
    media: GatewayMedia = GatewayMedia()
    """Which images and videos clients may name by URL. RestartsTier."""


class GLMDeploymentSpec(Model):
    """The serving stack that is wanted."""

    rules: ClassVar[tuple[Rule, ...]] = gateway_rules.SPEC

    mode: Mode = Mode.LIVE
    """Live serves; Plan computes and publishes the plan, creates nothing and leaves what runs as it
    is; Paused keeps what runs, replaces lost replicas and takes over no other change. Live."""
    tiers: Tiers
    """The tiers of the stack; at least one. Live."""
    routing: Routing = Routing()
    """How the gateway chooses a tier. Live."""
    gateway: Gateway = Gateway()
    """The OpenAI-compatible gateway. Live."""
    image_pull_secrets: Annotated[tuple[NodeName, ...], EachOnce] = Field(
        default=(), max_length=16, json_schema_extra=SET
    )
    """Names of Secrets of the namespace with which images are pulled. RestartsTier."""


class Metadata(Model):
    """The part of an object's metadata that the operator reads."""

    model_config = Model.model_config | {"extra": "ignore"}

    name: str = Field(min_length=1)
    namespace: str = "default"
    uid: str = ""
    generation: int = 0


class GLMDeployment(Model):
    """A GLM-4.6V serving stack: up to three tiers (flagship, flash, text) and one gateway that
    routes between them."""

    model_config = Model.model_config | {"extra": "ignore"}

    rules: ClassVar[tuple[Rule, ...]] = rules.OBJECT

    api_version: Literal["glm-operator.io/v1alpha1"] = "glm-operator.io/v1alpha1"
    kind: Literal["GLMDeployment"] = "GLMDeployment"
    metadata: Metadata
    spec: GLMDeploymentSpec

    @property
    def name(self) -> str:
        """Name of the object."""
        return self.metadata.name

    @property
    def namespace(self) -> str:
        """Namespace of the object and of everything it owns."""
        return self.metadata.namespace

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> GLMDeployment:
        """Read an object as the API server or a file gives it.

        Raises `InvalidObject` with one sentence that names the field, its value and the way out.
        """
        return read(cls, raw)
