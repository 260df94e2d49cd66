"""What can be said about the chart without rendering it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from glm_operator.runtime.settings import LOG_LEVELS
from helm import CHART, default_values

TEMPLATES = "\n".join(
    path.read_text() for path in sorted((CHART / "templates").iterdir()) if path.is_file()
)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
README_ROW = re.compile(r"^\| `([\w.]+)` \| `(.*?)` \|", re.MULTILINE)


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of everything in `values` that is not a filled mapping."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


VALUES = dict(leaves(default_values()))


def used_in_a_template(path: str) -> bool:
    """A template names the value, or a mapping above it as a whole (`toYaml .Values.resources`)."""
    parts = path.split(".")
    names = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    return any(re.search(rf"\.Values\.{re.escape(name)}(?![\w.])", TEMPLATES) for name in names)


def schema_of(path: str) -> dict[str, Any]:
    """The part of the schema that describes the value, also where its key is free."""
    node = SCHEMA
    for key in path.split("."):
        node = node.get("properties", {}).get(key) or node["additionalProperties"]
    return dict(node)


@pytest.mark.parametrize("path", VALUES)
def test_every_value_is_used_by_a_template(path: str) -> None:
    assert used_in_a_template(path), f"{path} is a dead value"


@pytest.mark.parametrize("path", VALUES)
def test_every_value_is_described_by_the_schema(path: str) -> None:
    assert schema_of(path)


def test_the_schema_describes_nothing_that_values_lack() -> None:
    def paths(node: dict[str, Any], prefix: str = "") -> Iterator[str]:
        for key, child in node.get("properties", {}).items():
            yield f"{prefix}{key}"
            yield from paths(child, f"{prefix}{key}.")

    known = {path[: cut.start()] for path in VALUES for cut in re.finditer(r"\.|$", path)}
    unknown = {path for path in paths(SCHEMA) if path not in known} - {"global"}
    assert unknown == set()


def test_every_object_of_the_schema_is_closed_and_described() -> None:
    def check(node: dict[str, Any], path: str) -> None:
        assert path == "global" or not path or node.get("description"), f"{path} has no description"
        if "properties" in node:
            assert node["additionalProperties"] is False, f"{path or 'the root'} takes any key"
        for key, child in node.get("properties", {}).items():
            check(child, f"{path}.{key}".lstrip("."))

    check(SCHEMA, "")


def test_the_schema_knows_the_log_levels_of_the_operator() -> None:
    assert tuple(SCHEMA["properties"]["logLevel"]["enum"]) == LOG_LEVELS


def test_the_readme_lists_every_value_with_its_default() -> None:
    rows = dict(README_ROW.findall((CHART / "README.md").read_text()))
    assert rows == {path: json.dumps(value) for path, value in VALUES.items()}
