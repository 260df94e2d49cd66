"""Short ways to write the planner's inputs down."""

from __future__ import annotations

from typing import Any

from cluster_model import GPU, ModelCluster, gpu_node
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.observed import GatewayReport, GatewayTier, Node, Replica

NOW = 1_700_000_000.0
FLAGSHIP = {"model": {"preset": "GLM-4.6V", "uri": "image:///m/f", "quantization": "FP8"}}
FLASH = {"model": {"preset": "GLM-4.6V-Flash", "uri": "image:///m/s", "quantization": "BF16"}}
TEXT = {"model": {"preset": "GLM-4.6", "uri": "image:///m/t", "quantization": "INT4"}}
"""Four H100s each."""
OFF = {"scaling": {"mode": "Off"}}
HUB: dict[str, Any] = {
    "model": {"preset": "GLM-4.6V", "uri": "hf://zai-org/GLM-4.6V-FP8", "quantization": "FP8"}
}
"""A flagship of the hub."""
SMALL: dict[str, Any] = {
    "model": {"preset": "GLM-4.6V-Flash", "uri": "hf://zai-org/Flash", "quantization": "BF16"}
}
"""A flash of the hub, for one GPU."""


def replica(name: str = "a", **more: Any) -> Replica:
    """A replica that serves, on node `node-1`."""
    base: dict[str, Any] = {
        "uid": f"uid-{name}",
        "tier": "flash",
        "revision": "new",
        "ordinal": 0,
        "created_at": NOW - 1000,
        "node": "node-1",
        "bound": True,
        "gpus": 1,
        "phase": "Running",
        "container_id": "c1",
        "containers_ready": True,
        "routable": True,
        "verified": True,
        "verified_container": "c1",
    }
    return Replica(name, **(base | more))


def starting(name: str, **more: Any) -> Replica:
    """A replica whose engine is not healthy yet."""
    fresh = {"containers_ready": False, "routable": False, "verified": None}
    return replica(name, **(fresh | {"verified_container": ""} | more))


def failed(name: str, **more: Any) -> Replica:
    """A replica whose pod ended at its start."""
    ended = {"phase": "Failed", "created_at": NOW, "failed_at": NOW, "failure": "Evicted"}
    return starting(name, **(ended | {"container_id": ""} | more))


def report(
    age: float = 0.5, pod: str = "gateway-0", heard: bool = True, **flash: Any
) -> GatewayReport:
    """A gateway's report of the flash tier."""
    return GatewayReport(pod, 1, age, heard, tiers={"flash": GatewayTier(**flash)})


def engine(**more: Any) -> EngineSpec:
    """A flagship engine on two GPUs."""
    base: dict[str, Any] = {
        "tier": "flagship",
        "preset": "GLM-4.6V",
        "served_name": "glm-4.6v",
        "uri": "image:///m/f",
        "image": "engine:1",
        "tensor": 2,
        "max_model_len": 65536,
        "quantization": "FP8",
    }
    return EngineSpec(**(base | more))


def nodes(*gpus: int) -> dict[str, Node]:
    """H100 nodes `node-1`, `node-2`, ... with so many GPUs each."""
    made = [gpu_node(f"node-{index}", count) for index, count in enumerate(gpus, 1)]
    return {node.name: node for node in made}


def cluster(
    *gpus: int, flagship: Any = FLAGSHIP, flash: Any = None, text: Any = None, **spec: Any
) -> ModelCluster:
    """A cluster of H100 nodes with one object; a tier that is None is left out."""
    tiers = {"flagship": flagship, "flash": flash, "text": text}
    present = {name: dict(tier) for name, tier in tiers.items() if tier is not None}
    return ModelCluster({"tiers": present, **spec}, nodes(*gpus))


def settled(*gpus: int, **spec: Any) -> ModelCluster:
    """The same cluster once nothing is left to do."""
    made = cluster(*gpus, **spec)
    made.settle()
    return made


def condition(found: ModelCluster, kind: str) -> dict[str, Any]:
    """One condition of the status as written last."""
    return next(dict(one) for one in found.status["conditions"] if one["type"] == kind)


def uids(found: ModelCluster) -> set[str]:
    """The pods that there are."""
    return {pod.uid for pod in found.pods.values()}


__all__ = [
    "FLAGSHIP",
    "FLASH",
    "GPU",
    "NOW",
    "OFF",
    "TEXT",
    "cluster",
    "condition",
    "engine",
    "failed",
    "nodes",
    "replica",
    "report",
    "settled",
    "starting",
    "uids",
]
