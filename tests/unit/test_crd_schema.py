"""What we ask of every field of the schema, as kube-api-linter would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from pydantic import Field as PydanticField

from glm_operator.api import crd, names
from glm_operator.api.model import Model
from glm_operator.api.reference import EFFECTS, Field, fields
from glm_operator.api.schema import NotStructural, structural
from glm_operator.api.status import GLMDeploymentStatus
from glm_operator.api.v1alpha1 import GLMDeploymentSpec

SPEC = list(fields(structural(GLMDeploymentSpec), "spec"))
STATUS = list(fields(structural(GLMDeploymentStatus), "status"))
EVERY = [*SPEC, *STATUS]
FORBIDDEN = ("$ref", "anyOf", "allOf", "oneOf", "title", "const", "nullable", "exclusiveMinimum")
UNIT = re.compile(r"(Seconds|Bytes)$")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
CLIENT_SIDE_APPLY = 200_000
"""Characters that leave room below the 262,144 of the annotation that kubectl apply writes."""
LIST_TYPES = ("atomic", "set", "map")


def levels(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of a schema, properties and items included."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from levels(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from levels(value)


def paths(found: list[Field]) -> list[str]:
    return [field.path for field in found]


def test_nothing_that_a_structural_schema_forbids_is_in_it() -> None:
    keys = {key for level in levels(crd.definition()) for key in level}
    assert not keys & set(FORBIDDEN)


def test_every_field_is_described_in_a_sentence() -> None:
    wrong = [field for field in EVERY if not re.fullmatch(r"[A-Z].*\.", _text(field))]
    assert paths(wrong) == []


def _text(field: Field) -> str:
    return str(field.schema.get("description", ""))


def test_every_field_of_the_spec_says_what_an_edit_does() -> None:
    assert paths([field for field in SPEC if field.effect not in EFFECTS]) == []


def test_no_field_is_a_float_or_a_boolean() -> None:
    wrong = [field for field in EVERY if field.schema["type"] in ("number", "boolean")]
    assert paths(wrong) == []


def test_every_string_is_bounded() -> None:
    bounds = {"maxLength", "enum"}
    strings = [field for field in EVERY if field.schema["type"] == "string"]
    assert paths([field for field in strings if not bounds & field.schema.keys()]) == []


def test_every_integer_is_bounded() -> None:
    bounds = {"minimum", "maximum", "format"}
    integers = [field for field in EVERY if field.schema["type"] == "integer"]
    assert paths([field for field in integers if not bounds <= field.schema.keys()]) == []


def test_every_list_is_bounded_and_typed() -> None:
    wrong = [
        field
        for field in EVERY
        if field.schema["type"] == "array"
        and (
            "maxItems" not in field.schema
            or field.schema.get("x-kubernetes-list-type") not in LIST_TYPES
        )
    ]
    assert paths(wrong) == []


def test_every_map_is_bounded() -> None:
    maps = [field for field in EVERY if "additionalProperties" in field.schema]
    assert paths([field for field in maps if "maxProperties" not in field.schema]) == []


def test_choices_are_pascal_case_or_names_of_tiers() -> None:
    choices = {value for field in EVERY for value in field.schema.get("enum", ())}
    wrong = {value for value in choices if not re.fullmatch(r"[A-Z][A-Za-z0-9.-]*", value)}
    assert wrong <= {"flagship", "flash", "text"}


def test_optional_fields_of_the_spec_have_defaults_and_required_ones_none() -> None:
    optional_without = [
        field.path for field in SPEC if not field.required and "default" not in field.schema
    ]
    required_with = [field.path for field in SPEC if field.required and "default" in field.schema]
    absent = [f"spec.tiers.{tier}" for tier in names.TIERS]
    effect = "placement.tolerations[].effect"
    assert sorted(optional_without) == sorted([*absent, *(f"{tier}.{effect}" for tier in absent)])
    assert required_with == []


def test_objects_have_the_empty_default_only() -> None:
    objects = [field for field in SPEC if "properties" in field.schema]
    wrong = [field for field in objects if field.schema.get("default", {}) != {}]
    assert paths(wrong) == []


def test_the_status_has_no_defaults_and_its_conditions_first() -> None:
    assert paths([field for field in STATUS if "default" in field.schema]) == []
    assert STATUS[0].path == "status.conditions"


def test_durations_and_sizes_have_their_unit_in_the_name() -> None:
    measured = r"(?i)(timeout|idle|body|inflight)[a-z]*$"
    numbers = [field for field in SPEC if field.schema["type"] == "integer"]
    names = [field.path.rpartition(".")[2] for field in numbers]
    wrong = [name for name in names if re.search(measured, name) and not UNIT.search(name)]
    assert wrong == []


def test_the_rendered_file_is_the_definition_without_anchors() -> None:
    text = crd.render()
    assert yaml.load(text, Loader=LOADER) == crd.definition()
    assert not re.search(r"[&*]id\d+", text)
    assert len(text) < CLIENT_SIDE_APPLY


class Loose(Model):
    """A model that a CRD cannot say."""

    either: int | str = PydanticField(default=0)


def test_a_union_of_types_is_refused() -> None:
    with pytest.raises(NotStructural, match="one type or null"):
        structural(Loose)
