"""Values that fit a JSON schema, chosen by a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

WORDS = ("blue", "circle", "left", "menu", "north", "save", "table", "window")
MAX_DEPTH = 8
"""Below this a value is the smallest there is, so that a recursive schema ends."""


def value(
    schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any], depth: int = 0
) -> Any:
    """One value that `schema` accepts; `root` resolves `$ref` into `$defs`."""
    if "$ref" in schema:
        return value(_resolved(str(schema["$ref"]), root), rng, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(list(schema["enum"]))
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return value(schema[key][0], rng, root, depth + 1)
    return _typed(_kind(schema), schema, rng, root, depth)


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return str(next((k for k in kind if k != "null"), "null"))
    if kind is None:
        return "object" if "properties" in schema else "string"
    return str(kind)


def _typed(
    kind: str, schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any], depth: int
) -> Any:
    match kind:
        case "object":
            return _object(schema, rng, root, depth)
        case "array":
            count = 0 if depth > MAX_DEPTH else max(1, int(schema.get("minItems", 1)))
            count = min(count, int(schema.get("maxItems", count)))
            return [value(schema.get("items", {}), rng, root, depth + 1) for _ in range(count)]
        case "integer":
            return rng.randint(*_bounds(schema))
        case "number":
            return float(rng.randint(*_bounds(schema)))
        case "boolean":
            return rng.random() < 0.5
        case "null":
            return None
        case _:
            return _text(schema, rng)


def _object(
    schema: Mapping[str, Any], rng: random.Random, root: Mapping[str, Any], depth: int
) -> dict[str, Any]:
    """Every property, but only the required ones where the schema may be recursive."""
    names = list(schema.get("properties", {}))
    if depth > MAX_DEPTH:
        names = [name for name in names if name in schema.get("required", ())]
    return {name: value(schema["properties"][name], rng, root, depth + 1) for name in names}


def _bounds(schema: Mapping[str, Any]) -> tuple[int, int]:
    low = int(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
    high = int(schema.get("maximum", schema.get("exclusiveMaximum", max(low, 9) + 1) - 1))
    return low, max(low, high)


def _text(schema: Mapping[str, Any], rng: random.Random) -> str:
    text = rng.choice(WORDS)
    while len(text) < int(schema.get("minLength", 0)):
        text += rng.choice(WORDS)
    return text[: int(schema.get("maxLength", len(text)))]


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) else {}
