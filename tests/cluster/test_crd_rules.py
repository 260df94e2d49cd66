"""The CRD on a real API server: bounds, rules, defaults, /scale, /status and columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_server import OBJECTS, Refused
from control_plane import ControlPlane
from glm_dev.kubectl import KubectlError
from glm_operator.api.reference import Field, fields
from glm_operator.api.schema import structural
from glm_operator.api.v1alpha1 import GLMDeployment, GLMDeploymentSpec
from object_cases import CASES, EDIT_CASES, FLASH, REMOVED, Case, EditCase, base, changed, full

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(30, func_only=True)]

Json = dict[str, Any]
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))


def made(plane: ControlPlane, namespace: str, obj: Json, dry_run: bool = False) -> Json:
    """Create the object in the namespace."""
    obj["metadata"]["namespace"] = namespace
    return plane.api.create(OBJECTS.format(namespace), obj, dry_run=dry_run)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_that_obeys_the_rule_is_accepted(control_plane: ControlPlane, case: Case) -> None:
    made(control_plane, "default", changed(case.accepted), dry_run=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_that_breaks_the_rule_gets_its_sentence(
    control_plane: ControlPlane, case: Case
) -> None:
    with pytest.raises(Refused) as caught:
        made(control_plane, "default", changed(case.rejected), dry_run=True)
    assert caught.value.status == 422
    assert case.sentence in str(caught.value)


@pytest.mark.parametrize("case", EDIT_CASES, ids=str)
def test_an_edit_is_judged_by_what_was_there_before(
    control_plane: ControlPlane, namespace: str, case: EditCase
) -> None:
    before = made(control_plane, namespace, changed(case.before))
    path = f"{OBJECTS.format(namespace)}/vision"
    with pytest.raises(Refused) as caught:
        control_plane.api.replace(path, changed(case.rejected, before), dry_run=True)
    assert case.sentence in str(caught.value)
    control_plane.api.replace(path, changed(case.accepted, before), dry_run=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_accepted(control_plane: ControlPlane, example: Path) -> None:
    for obj in yaml.safe_load_all(example.read_text()):
        made(control_plane, "default", obj, dry_run=True)


def wrong_values(field: Field) -> Iterator[Any]:
    """Values just outside what a field's own schema allows."""
    schema = field.schema
    if "enum" in schema:
        yield "Nonsense"
    if schema["type"] == "integer":
        yield schema["minimum"] - 1
        yield schema["maximum"] + 1
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if schema.get("minLength"):
        yield ""
    if "pattern" in schema:
        yield "-"
    if schema["type"] == "object" and "properties" in schema:
        yield "text"
    if "maxItems" in schema:
        yield ["a"] * (schema["maxItems"] + 1)


WRONG = [
    pytest.param(field.path, value, id=f"{field.path}-{number}")
    for field in fields(structural(GLMDeploymentSpec), "spec")
    if "[]" not in field.path
    for number, value in enumerate(wrong_values(field))
]


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_value_outside_a_field_s_bounds_is_refused_by_name(
    control_plane: ControlPlane, path: str, value: Any
) -> None:
    with pytest.raises(Refused) as caught:
        made(control_plane, "default", changed({path: value}, full()), dry_run=True)
    assert path in str(caught.value)


def test_a_full_object_is_stored_as_written(control_plane: ControlPlane, namespace: str) -> None:
    assert made(control_plane, namespace, full())["spec"] == full()["spec"]


def test_the_stored_defaults_are_those_of_the_models(
    control_plane: ControlPlane, namespace: str
) -> None:
    stored = made(control_plane, namespace, base())["spec"]
    spec = GLMDeployment.parse(base()).spec
    ours = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert stored == ours


def test_an_absent_tier_is_not_given_defaults(control_plane: ControlPlane, namespace: str) -> None:
    stored = made(control_plane, namespace, changed({FLASH: REMOVED}))
    assert list(stored["spec"]["tiers"]) == ["flagship"]


def test_kubectl_says_one_clear_sentence(control_plane: ControlPlane, namespace: str) -> None:
    wrong = changed({f"{FLASH}.scaling.minReplicas": 9})
    with pytest.raises(KubectlError, match="minReplicas must not be above maxReplicas"):
        control_plane.kubectl.apply(wrong | {"metadata": {"name": "vision"}}, namespace)


def scale(plane: ControlPlane, namespace: str, count: int) -> str:
    return plane.kubectl.run("scale", "glm/vision", f"--replicas={count}", "-n", namespace)


def test_scale_does_not_conjure_a_flash_tier(control_plane: ControlPlane, namespace: str) -> None:
    made(control_plane, namespace, changed({FLASH: REMOVED}))
    with pytest.raises(KubectlError):
        scale(control_plane, namespace, 2)
    stored = control_plane.api.get(f"{OBJECTS.format(namespace)}/vision")
    assert list(stored["spec"]["tiers"]) == ["flagship"]


def test_scale_is_refused_while_the_operator_scales(
    control_plane: ControlPlane, namespace: str
) -> None:
    made(control_plane, namespace, base())
    with pytest.raises(KubectlError, match="flash is scaled by the operator: change minReplicas"):
        scale(control_plane, namespace, 2)


def test_scale_sets_and_reads_the_replicas_of_flash(
    control_plane: ControlPlane, namespace: str
) -> None:
    made(control_plane, namespace, changed({f"{FLASH}.scaling.mode": "External"}))
    scale(control_plane, namespace, 3)
    path = f"{OBJECTS.format(namespace)}/vision"
    seen = {"status": {"tiers": {"flash": {"replicas": 2, "selector": "a=b"}}}}
    control_plane.api.merge(f"{path}/status", seen)
    found = control_plane.api.get(f"{path}/scale")
    assert found["spec"] == {"replicas": 3}
    assert found["status"] == {"replicas": 2, "selector": "a=b"}


def test_status_is_written_only_through_its_subresource(
    control_plane: ControlPlane, namespace: str
) -> None:
    written = changed({"status.observedGeneration": 7})
    assert "status" not in made(control_plane, namespace, written)


def test_columns_show_state_at_a_glance(control_plane: ControlPlane, namespace: str) -> None:
    made(control_plane, namespace, base())
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Serving",
        "message": "The gateway answers.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }
    planned = condition | {"type": "Planned", "message": "flash: 1 GPU per replica"}
    status = {
        "conditions": [condition, planned],
        "tiers": {"flagship": {"summary": "1/1"}, "flash": {"summary": "2/3"}},
        "gateway": {"url": "http://vision-gateway.ml"},
    }
    path = f"{OBJECTS.format(namespace)}/vision"
    control_plane.api.merge(f"{path}/status", {"status": status})
    shown = control_plane.kubectl.run("get", "glm", "-n", namespace)
    wide = control_plane.kubectl.run("get", "glmd", "-n", namespace, "-o", "wide")
    columns = ["NAME", "READY", "REASON", "FLAGSHIP", "FLASH", "URL", "AGE"]
    assert shown.splitlines()[0].split() == columns
    cells = shown.splitlines()[1].split()
    assert cells[1:6] == ["True", "Serving", "1/1", "2/3", "http://vision-gateway.ml"]
    assert "flash: 1 GPU per replica" in wide
