"""From pydantic's JSON schema to the structural schema that a CRD takes.

A CRD knows no references, no unions, no null and no titles, and an object's default must be
`{}` so that the defaults of its fields are stored level by level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from glm_operator.api.model import Model

Schema = dict[str, Any]

INT32_MAX = (1 << 31) - 1
RULES = "x-kubernetes-validations"
NULL = {"type": "null"}
KEPT = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
)
"""What is taken over as it is, in the order in which it is written."""


class NotStructural(ValueError):
    """A model uses something that a CRD cannot say."""


def structural(model: type[Model]) -> Schema:
    """The structural schema of a model. Raises `NotStructural`."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """One level, with everything below it."""
    flat = _resolved(raw, definitions)
    if "type" not in flat:
        raise NotStructural(f"no single type in {flat}")
    schema = {key: flat[key] for key in KEPT if key in flat}
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if schema["type"] == "integer":
        schema["format"] = "int32" if _fits_int32(schema) else "int64"
    if "items" in flat:
        schema["items"] = _convert(flat["items"], definitions)
    if "properties" in flat:
        _add_properties(schema, flat["properties"], definitions)
    elif isinstance(flat.get("additionalProperties"), Mapping):
        values = flat["additionalProperties"]
        schema["additionalProperties"] = _convert(values, definitions)
    extensions = {key: flat[key] for key in sorted(flat) if key.startswith("x-")}
    if "default" in schema and RULES in extensions:
        extensions[RULES] = [_guarded(rule) for rule in extensions[RULES]]
    return schema | extensions


def _guarded(validation: Mapping[str, str]) -> Schema:
    """The rule of an object whose default is `{}`.

    The API server judges that default by itself, before the fields get theirs.
    """
    rule = validation["rule"]
    fields = sorted(set(re.findall(r"\bself\.(\w+)", rule)))
    absent = " || ".join(f"!has(self.{field})" for field in fields)
    return {**validation, "rule": f"{absent} || ({rule})"}


def _add_properties(
    schema: Schema, properties: Mapping[str, Any], definitions: Mapping[str, Any]
) -> None:
    if "default" in schema:
        schema["default"] = {}
    schema["properties"] = {
        name: _convert(value, definitions) for name, value in properties.items()
    }


def _resolved(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """The level without references, constants and null branches; its own keys win."""
    own = {key: value for key, value in raw.items() if key not in ("$ref", "anyOf", "const")}
    if "const" in raw:
        own["enum"] = [raw["const"]]
    if "anyOf" in raw:
        branches = [branch for branch in raw["anyOf"] if branch != NULL]
        if len(branches) != 1:
            raise NotStructural(f"a field may have one type or null, not {raw['anyOf']}")
        if own.get("default", 0) is None:
            del own["default"]
        return _resolved(branches[0], definitions) | own
    if "$ref" in raw:
        name = raw["$ref"].rpartition("/")[2]
        return _resolved(definitions[name], definitions) | own
    return own


def _fits_int32(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("maximum", INT32_MAX + 1) <= INT32_MAX)
