"""The versioned configuration (JSON) that the operator writes and the gateway reads."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from glm_serving.compat import override
from glm_serving.gateway import rules
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.rules import Degradation, Rule

AUTO = "auto"
FLAGSHIP = "flagship"
FLASH = "flash"
TEXT = "text"
"""Its model sees nothing, so it is never asked about an image or a video."""
TIERS = (FLAGSHIP, FLASH, TEXT)
VERSION = 1


class LogLevel(enum.StrEnum):
    """How much the process tells of itself; the access log is not concerned."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Endpoint(msgspec.Struct, frozen=True):
    """A static replica: `http://host:port`."""

    name: str
    """Unique in its tier; clients see it in `x-glm-replica`."""
    url: str
    """`http://host:port`, without a path."""


class TierConfig(msgspec.Struct, frozen=True, rename="camel"):
    """One tier. Replicas are the static `endpoints` and the ready endpoints of `service`."""

    model: str
    """The name by which clients ask for this tier."""
    context_tokens: Positive
    """The engine's context length."""
    max_images: Count = 16
    """Images per request; must be 0 for `text`, whose model has no vision."""
    max_videos: Count = 0
    """Videos per request; must be 0 for `text`."""
    hold_timeout_seconds: Annotated[float, msgspec.Meta(ge=0)] = 300
    """How long a request waits for a replica."""
    joining: bool = False
    """It was added while others served and has not served yet: only who names it waits for it."""
    service: str = ""
    """Service whose ready endpoints are replicas; with Kubernetes only."""
    endpoints: tuple[Endpoint, ...] = ()
    """Static replicas."""


class Limits(msgspec.Struct, frozen=True, rename="camel"):
    """Limits of one gateway process."""

    max_body_bytes: Positive = 67108864
    """Of one request."""
    max_in_flight_bytes: Positive = 1073741824
    """Of all bodies in memory."""
    max_held_requests: Count = 512
    """Requests that wait at once for one tier."""
    first_token_timeout_seconds: Seconds = 300
    """Of a stream: from sending it to a replica to the first byte of its answer."""
    idle_timeout_seconds: Seconds = 300
    """Between two pieces of an answer. A tool call may be computed whole before it is sent."""
    total_timeout_seconds: Seconds = 3600
    """From the end of a request to the end of its answer."""


class Auth(msgspec.Struct, frozen=True, rename="camel"):
    """Where the API keys of clients are. With neither, anyone may come."""

    keys_file: str = ""
    """Path of a keys file; a relative one begins at the configuration's folder."""
    api_keys_secret: str = ""
    """Name of a Secret beside the ConfigMap; with Kubernetes only."""

    @property
    def required(self) -> bool:
        """Whether clients need a key."""
        return bool(self.keys_file or self.api_keys_secret)


class Media(msgspec.Struct, frozen=True, rename="camel"):
    """Which images and videos a request may carry."""

    allowed_domains: tuple[str, ...] = ()
    """Hosts of media by URL, in small letters. An engine must be told the same."""
    allow_http: bool = msgspec.field(default=False, name="allowHTTP")
    """Whether such a URL may be `http`."""
    max_image_pixels: Positive = 40_000_000
    """Of one image; the engines of the operator take as many (VLLM_MAX_IMAGE_PIXELS)."""
    max_request_pixels: Positive = 400_000_000
    """Of all images and frames of one request."""
    max_video_frames: Positive = 640
    """Of a video that is sent as JPEGs."""


class Config(msgspec.Struct, frozen=True, rename="camel"):
    """The whole file. Unknown keys are ignored, so that a newer operator may write more."""

    version: int
    """Of this format."""
    tiers: dict[str, TierConfig]
    """Any of `flagship`, `flash` and `text`, at least one."""
    auto_model: str = "glm"
    """The model name that lets the gateway choose."""
    deployment: str = ""
    """Whose gateway this is."""
    namespace: str = ""
    """Of the deployment."""
    generation: int = 0
    """Of the object; reported by `/state`."""
    aliases: dict[str, str] = {}
    """More model names: name -> `auto` or a tier. An alias wins over a model name."""
    quality_tolerance_points: float = 5
    """Flash serves where the flagship's published lead is smaller."""
    rules: tuple[Rule, ...] = ()
    """Rules that choose a tier, tried in this order before the published scores."""
    degradation: Degradation = Degradation.HOLD
    """What happens while the chosen tier takes no request."""
    log_level: LogLevel = LogLevel.INFO
    """Lines of the log of the process that matter less than this are left out."""
    limits: Limits = Limits()
    """Of this process."""
    auth: Auth = Auth()
    """Where the keys of clients are."""
    media: Media = Media()
    """Which images and videos a request may carry."""
    gateway_service: str = ""
    """The Service of the gateways themselves: its ready endpoints divide the limits of keys."""


_decoder = msgspec.json.Decoder(Config)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica listens."""

    host: str
    port: int

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: bytes) -> Config:
    """Decode and check a configuration.

    Raises:
        ConfigError: it is not JSON, misses a field, or contradicts itself.
    """
    try:
        config = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"the configuration cannot be read: {error}") from error
    _check(config)
    return config


def _check(config: Config) -> None:
    if config.version != VERSION:
        raise ConfigError(f"version is {config.version}: this gateway reads version {VERSION}")
    unknown = sorted(set(config.tiers) - set(TIERS))
    if unknown or not config.tiers:
        raise ConfigError(f"tiers has {unknown or 'no entry'}: use {', '.join(TIERS)}")
    for alias, target in config.aliases.items():
        if target != AUTO and target not in config.tiers:
            raise ConfigError(f"aliases.{alias} is {target!r}: use {AUTO!r} or a tier that exists")
    for name, tier in config.tiers.items():
        _check_tier(name, tier)
    _check_rules(config)


def _check_rules(config: Config) -> None:
    names = {name: target == AUTO for name, target in client_names(config).items()}
    seen: set[str] = set()
    for rule in config.rules:
        if rule.name in seen:
            raise ConfigError(f"rules has {rule.name!r} twice: rename one")
        seen.add(rule.name)
        if rule.tier not in config.tiers:
            have = " or ".join(config.tiers)
            raise ConfigError(f"rules.{rule.name}.tier is {rule.tier!r}: use {have}")
        rules.check(rule, names)


def _check_tier(name: str, tier: TierConfig) -> None:
    for key, count in (("maxImages", tier.max_images), ("maxVideos", tier.max_videos)):
        if name == TEXT and count:
            raise ConfigError(f"tiers.text.{key} is {count}: its model takes text only, write 0")
    seen: set[str] = set()
    for endpoint in tier.endpoints:
        if endpoint.name in seen:
            raise ConfigError(f"tiers.{name}.endpoints has {endpoint.name!r} twice: rename one")
        seen.add(endpoint.name)
        address_of(endpoint.url)


def address_of(url: str) -> Address:
    """The address in `http://host:port`.

    Raises:
        ConfigError: the URL has another form.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"endpoint url {url!r} cannot be read: {error}") from error
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme != "http" or not parts.hostname or port is None or extra:
        raise ConfigError(f"endpoint url is {url!r}: write it as http://host:port")
    return Address(parts.hostname, port)


def client_names(config: Config) -> Mapping[str, str]:
    """Every model name a client may send -> `auto` or a tier. An alias wins over a model name."""
    names = {tier.model: name for name, tier in config.tiers.items()}
    names[config.auto_model] = AUTO
    names.update(config.aliases)
    return names
