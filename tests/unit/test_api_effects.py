"""A field says Live or RestartsTier, and an edit of it does just that to what pods are made of."""

from __future__ import annotations

from typing import Any

import pytest

from glm_operator.api.reference import Field, effects, fields
from glm_operator.api.schema import structural
from glm_operator.api.v1alpha1 import GLMDeployment, GLMDeploymentSpec
from glm_operator.plan.observed import Defaults
from glm_operator.plan.resolve import Inputs
from object_cases import FLAGSHIP, FLASH, TEXT, changed, full

FIELDS = {field.path: field for field in fields(structural(GLMDeploymentSpec), "spec")}
ONE_CHOICE = {path for path, field in FIELDS.items() if len(field.schema.get("enum", "ab")) == 1}
EFFECTS = effects()
START = changed(
    {
        f"{FLAGSHIP}.placement.pinning": "Required",
        f"{FLASH}.placement.pinning": "Required",
        f"{TEXT}.placement.pinning": "Required",
        f"{FLAGSHIP}.placement.nodeNames": [],
        f"{TEXT}.placement.nodeNames": [],
        f"{FLASH}.placement.provisioning": "None",
        f"{FLASH}.model.uri": "hf://zai-org/flash",
        f"{FLASH}.model.quantization": "FP8",
        f"{FLASH}.model.groupSize": 128,
        f"{FLASH}.weights.cache": "Ephemeral",
    },
    full(),
)
OTHER: dict[str, Any] = {
    "model.uri": "hf://zai-org/another",
    "parallelism.tensor": "4",
    "parallelism.expert": "Auto",
    "parallelism.pipeline": "4",
    "text.model.groupSize": 0,
    "text.model.quantization": "INT4",
    "flagship.model.groupSize": 128,
    "flagship.model.quantization": "BF16",
    "flash.model.groupSize": 0,
    "flash.model.quantization": "INT4",
    "flagship.weights.cache": "Ephemeral",
    "text.weights.claimName": "models",
    "flash.weights.claimName": "models",
    "placement.pinning": "Preferred",
    "placement.nodeNames": ["gpu-9"],
    "placement.nodeAutoscaler.nodeShape": "4xA100-80GB",
    "placement.nodeSelector": {"other": "1"},
    "placement.tolerations": [{"key": "other"}],
    "placement.acceleratorResource": "amd.com/gpu",
    "resources.cpu": "3",
    "resources.memory": "48Gi",
    "engine.extraArgs": ["--max-num-seqs=2"],
    "engine.env": [{"name": "OTHER", "value": "1"}],
    "gateway.media.allowedDomains": ["other.example.org"],
    "routing.rules": [{"name": "other", "tier": "flash"}],
    "gateway.modelAliases": {"gpt-4o": "auto", "other": "auto"},
    "imagePullSecrets": ["other"],
}
"""End of a path -> a legal value, for fields where not any other value would do."""


TOGETHER: dict[str, dict[str, Any]] = {
    f"{FLAGSHIP}.weights.cache": {f"{FLAGSHIP}.weights.claimName": ""},
    f"{FLAGSHIP}.weights.claimName": {},
    f"{FLASH}.weights.claimName": {f"{FLASH}.weights.cache": "PersistentVolumeClaim"},
    f"{TEXT}.weights.claimName": {f"{TEXT}.weights.cache": "PersistentVolumeClaim"},
}
"""Path -> what has to change with it."""


def another(path: str) -> Any:
    """A legal value for a field, different from the one in START."""
    value = next((value for end, value in OTHER.items() if path.endswith(end)), None)
    return _next(FIELDS[path], _value(path)) if value is None else value


def _value(path: str) -> Any:
    place: Any = START
    for part in path.split("."):
        place = place[part]
    return place


def _next(field: Field, present: Any) -> Any:
    if "enum" in field.schema:
        return next(value for value in field.schema["enum"] if value != present)
    return present + 1 if field.schema["type"] == "integer" else f"{present}x"


def pod_inputs(obj: dict[str, Any]) -> list[str]:
    """What the planner makes each tier's revision from."""
    spec = GLMDeployment.parse(obj).spec
    domains = spec.gateway.media.allowed_domains
    return [
        Inputs(name, tier, spec.image_pull_secrets, Defaults(), allowed_domains=domains).hash()
        for name, tier in spec.tiers.items()
    ]


@pytest.mark.parametrize("path", sorted(EFFECTS.keys() - ONE_CHOICE))
def test_an_edit_does_what_the_field_says(path: str) -> None:
    edited = changed({path: another(path)} | TOGETHER.get(path, {}), START)
    replaces = pod_inputs(edited) != pod_inputs(START)
    assert replaces == (EFFECTS[path] == "RestartsTier")


def test_both_kinds_of_fields_were_edited() -> None:
    assert {EFFECTS[path] for path in EFFECTS.keys() - ONE_CHOICE} == {"Live", "RestartsTier"}
