"""What an engine pod is made of once everything is decided: the content of a tier's revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Self

from glm_operator.catalog import Sharding

REVISION_LENGTH = 8


def canonical_hash(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The resolved inputs of one tier's engine pods.

    It is stored in a ControllerRevision and read back by later operators, so that a new default
    or a newer operator replaces no pod. Fields may be added with a default, never renamed.
    """

    tier: str
    preset: str
    served_name: str
    uri: str
    image: str
    tensor: int
    max_model_len: int
    model_revision: str = ""
    """Of the hub: the commit where it is known, else as the user wrote it."""
    cache: str = ""
    """NodeLocal or PersistentVolumeClaim: where a Job keeps the copy; empty: the engine itself
    finds or downloads the weights."""
    cache_claim: str = ""
    """The user's claim that keeps the copy."""
    secret: str = ""
    """Secret with the variables of the hub's client. It names no revision: a pod that runs needs
    it no more."""
    quantization: str = "BF16"
    tool_call_parser: str = "glm45"
    reasoning_parser: str = "glm45"
    expert_parallel: bool = False
    fp8_kv_cache: bool = False
    max_images: int = 16
    """Images in one request; 0: the model has no vision."""
    max_videos: int = 0
    media_domains: tuple[str, ...] = ()
    """Hosts from which the engine fetches media by URL; none: it fetches nothing."""
    pipeline: int = 1
    group_size: int = 0
    """Weights that share one scale in the checkpoint; 0: the format's usual (catalog.Format)."""
    full_length_sequences: int = 1
    """Requests of full length that the KV cache must hold at once."""
    max_num_seqs: int = 0
    """Requests that run at once; 0: vLLM's default."""
    gpu_bytes: int = 0
    """Memory of the GPU that the size was computed for: as much holds it, whatever a later version
    computes. 0: unknown. It names no revision, because no pod is made of it."""
    checkpoint: str = ""
    """What is known of the checkpoint (catalog.checkpoint.text_of): the engine is always sized by
    it. It names no revision: no pod is made of it."""
    thinking: bool = True
    max_output_tokens: int = 16384
    extra_args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    """Literal (name, value) pairs of the user, in the user's order."""
    cpu: str = ""
    memory: str = ""
    resource: str = "nvidia.com/gpu"
    pinning: str = "Required"
    node_names: tuple[str, ...] = ()
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, str], ...] = ()
    runtime_class: str = ""
    priority_class: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    shm_bytes: int = 4 << 30
    """Size of /dev/shm in bytes."""
    startup_seconds: int = 1200
    """How long the engine may take from container start to its first healthy answer."""
    shutdown_seconds: int = 60
    """How long vLLM finishes requests after SIGTERM."""

    @property
    def sees(self) -> bool:
        """Whether the model takes images."""
        return self.max_images > 0

    @property
    def sharding(self) -> Sharding:
        """How one replica is spread over its GPUs."""
        return Sharding(self.tensor, self.pipeline, self.expert_parallel)

    @property
    def gpus(self) -> int:
        """GPUs one replica takes, all on one node."""
        return self.sharding.gpus

    def to_data(self) -> dict[str, Any]:
        """The JSON form kept in the ControllerRevision."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read a stored revision; fields that this version does not know are left out."""
        known = {item.name for item in fields(cls)}
        values = {key: value for key, value in data.items() if key in known}
        for name in _LISTS:
            values[name] = tuple(values.get(name, ()))
        values["env"] = tuple((name, value) for name, value in values.get("env", ()))
        return cls(**values)

    def revision(self) -> str:
        """The short hash that names the tier's revision and its pods.

        Fields at their default take no part: one that a later version adds changes no name.
        """
        data, defaults = self.to_data(), _DEFAULTS
        del data["gpu_bytes"], data["secret"], data["checkpoint"]
        told = {key: value for key, value in data.items() if value != defaults.get(key, ...)}
        return canonical_hash(told)[:REVISION_LENGTH]


_LISTS = ("extra_args", "node_names", "tolerations", "image_pull_secrets", "media_domains")
_DEFAULTS: dict[str, Any] = json.loads(
    json.dumps(
        {item.name: item.default for item in fields(EngineSpec) if item.default is not MISSING}
    )
)
"""The JSON form of every field that has a default."""
