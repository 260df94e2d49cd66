"""What the operator is started with: flags, else GLM_OPERATOR_* variables, else defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from glm_operator.plan.observed import Defaults

PREFIX = "GLM_OPERATOR_"
PLAN = Defaults()
LOG_LEVELS = ("debug", "info", "warning", "error")


class InvalidSettingError(ValueError):
    """A setting cannot be used; the text names it, its value and the way out."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. The variable of a field is its name in capitals after GLM_OPERATOR_."""

    kubeconfig: str = ""
    """A kubeconfig file; empty: the pod's service account."""
    context: str = ""
    """Context of the kubeconfig; empty: its current one."""
    namespace: str = "default"
    """Where the Lease lives: the operator's own namespace."""
    pod_name: str = ""
    """Identity of this process; empty: host name, process id and a random part."""
    watch_namespaces: tuple[str, ...] = ()
    """Namespaces whose objects are served; empty: all."""
    engine_image: str = PLAN.engine_image
    gateway_image: str = PLAN.gateway_image
    image_pull_policy: str = PLAN.image_pull_policy
    weights_image: str = PLAN.weights_image
    node_local: bool = PLAN.node_local
    """Whether nodes may keep copies of weights."""
    node_root: str = PLAN.node_root
    """Folder of a node below which copies are kept."""
    node_paths: tuple[str, ...] = ()
    """Folders of nodes that objects may read weights from."""
    hub_endpoint: str = ""
    """Where the hub is; empty: the hub client's default."""
    api_keys_secret_names: tuple[str, ...] = PLAN.api_keys_secret_names
    """Secrets that gateways may read API keys from; one comma: none."""
    log_level: str = "info"
    health_port: int = 8081
    """/healthz and /readyz; 0: any free port."""
    metrics_port: int = 9090
    """/metrics; 0: any free port."""
    workers: int = 8
    """Reconcile passes at the same time."""
    resync_seconds: float = 600.0
    """Every object is looked at this often, whatever happened."""
    scale_seconds: float = 2.5
    """How often the number of replicas of an autoscaled tier is decided."""
    lease_seconds: float = 15.0
    """After this without a renewal another operator may take over."""

    def __post_init__(self) -> None:
        self._check("log_level", self.log_level in LOG_LEVELS, f"use {', '.join(LOG_LEVELS)}")
        for name in ("health_port", "metrics_port"):
            self._check(name, 0 <= getattr(self, name) <= 65535, "use a port from 0 to 65535")
        for name in ("node_root", "node_paths"):
            value = getattr(self, name)
            paths = (value,) if isinstance(value, str) else value
            self._check(name, all(_is_folder(one) for one in paths), "use whole paths without ..")
        self._check("workers", 1 <= self.workers <= 64, "use 1 to 64")
        self._check("resync_seconds", self.resync_seconds >= 1, "use at least 1")
        self._check("scale_seconds", self.scale_seconds >= 0.5, "use at least 0.5")
        self._check("lease_seconds", self.lease_seconds >= 3, "use at least 3")

    def _check(self, name: str, holds: bool, way_out: str) -> None:
        if not holds:
            raise InvalidSettingError(f"{variable(name)} is {getattr(self, name)!r}: {way_out}")

    def defaults(self) -> Defaults:
        """The planner's part."""
        return Defaults(
            engine_image=self.engine_image,
            gateway_image=self.gateway_image,
            image_pull_policy=self.image_pull_policy,
            weights_image=self.weights_image,
            node_local=self.node_local,
            node_root=self.node_root,
            node_paths=self.node_paths,
            hub_endpoint=self.hub_endpoint,
            api_keys_secret_names=self.api_keys_secret_names,
        )

    @classmethod
    def load(cls, environ: Mapping[str, str], flags: Mapping[str, str | None]) -> Self:
        """Read the settings.

        Args:
            environ: the process's environment.
            flags: field name -> text given on the command line; None: not given.

        Raises:
            InvalidSettingError: a value cannot be used.
        """
        values: dict[str, object] = {}
        for one in fields(cls):
            text = flags.get(one.name) or environ.get(variable(one.name))
            if text:
                values[one.name] = _converted(one.name, text, one.default)
        return cls(**values)  # type: ignore[arg-type] # each value has its default's type


def _is_folder(path: str) -> bool:
    return path.startswith("/") and path != "/" and ".." not in path.split("/")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def _converted(name: str, text: str, default: object) -> object:
    try:
        match default:
            case bool():
                return {"true": True, "false": False}[text.lower()]
            case tuple():
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case int():
                return int(text)
            case float():
                return float(text)
            case _:
                return text
    except ValueError as error:
        raise InvalidSettingError(f"{variable(name)} is {text!r}: use a number") from error
    except KeyError as error:
        raise InvalidSettingError(f"{variable(name)} is {text!r}: use true or false") from error
