"""The status that the planner writes is the one of the schema: nothing is pruned, nothing dead."""

from __future__ import annotations

from typing import Any

import pytest

from glm_operator.api.reference import fields
from glm_operator.api.schema import structural
from glm_operator.api.status import GLMDeploymentStatus
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.observed import Defaults, Node, Observed
from glm_operator.plan.planner import plan
from object_cases import FLAGSHIP, FLASH, TEXT, TEXT_TIER, base, changed

LABELS = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.memory": "81559"}
ROOMY = Node("gpu-1", LABELS, allocatable={"nvidia.com/gpu": 8})
LARGE = Node("gpu-2", {"nvidia.com/gpu.memory": "183359"}, allocatable={"nvidia.com/gpu": 8})
EMPTY = Node("cpu-1")

ASKED = {"provisioning": "NodeAutoscaler", "nodeAutoscaler": {"nodeShape": "8xH100-80GB"}}
COMMIT = "c" * 40
KNOWN = changed(
    {f"{tier}.weights.prePull": "Disabled" for tier in (FLAGSHIP, FLASH, TEXT)}
    | {f"{tier}.model.revision": COMMIT for tier in (FLAGSHIP, FLASH, TEXT)},
    changed({TEXT: TEXT_TIER}),
)
"""No checkpoint has to be read before it begins."""
WAITING = changed({f"{tier}.placement": ASKED for tier in (FLAGSHIP, FLASH, TEXT)}, KNOWN)
FAILED = {"failures": 1, "failedAt": "1970-01-01T00:00:01Z", "message": "no node came"}
STORED = {
    "observedGeneration": 3,
    "tiers": {tier: {"nodeRequests": FAILED} for tier in ("flagship", "flash", "text")},
}

SITUATIONS = {
    "fits": (base(), ROOMY),
    "fetches": (KNOWN, LARGE),
    "text": (changed({TEXT: TEXT_TIER}), ROOMY),
    "text with a choice": (changed({TEXT: TEXT_TIER}), LARGE),
    "does not fit": (base(), EMPTY),
    "plan": (changed({"spec.mode": "Plan"}), ROOMY),
    "paused": (changed({"spec.mode": "Paused"}), ROOMY),
    "asleep": (changed({f"{FLASH}.scaling.minReplicas": 0}), ROOMY),
    "waits for nodes": (WAITING, EMPTY),
    "external": (changed({f"{FLASH}.scaling.mode": "External"}), ROOMY),
}


def written(obj: dict[str, Any], node: Node) -> dict[str, Any]:
    stored = STORED if obj is WAITING else {}
    observed = Observed(
        GLMDeployment.parse(obj), uid="u", generation=3, nodes=(node,), status=stored
    )
    return dict(plan(observed, now=1_000.0, defaults=Defaults()).status)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_written_follows_the_schema(situation: str) -> None:
    status = written(*SITUATIONS[situation])
    read = GLMDeploymentStatus.model_validate(status)
    assert read.model_dump(mode="json", by_alias=True, exclude_none=True) == status


def paths(value: Any, path: str) -> set[str]:
    """Every path that a written status has."""
    if isinstance(value, list):
        return {path}.union(*(paths(item, f"{path}[]") for item in value))
    if isinstance(value, dict):
        return {path}.union(*(paths(item, f"{path}.{name}") for name, item in value.items()))
    return {path}


def test_every_field_of_the_schema_is_written() -> None:
    everything = set[str]().union(
        *(paths(written(*situation), "status") for situation in SITUATIONS.values())
    )
    known = {field.path for field in fields(structural(GLMDeploymentStatus), "status")}
    assert known - everything == set()
