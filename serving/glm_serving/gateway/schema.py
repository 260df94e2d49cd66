"""The JSON Schema of the configuration: from its types, described by the words beside them."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from typing import Any

import msgspec

from glm_serving.gateway.config import TIERS, VERSION, Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/{name}"


def schema() -> dict[str, Any]:
    """The schema of the whole file.

    It does not say what two keys may not be together; `glm-gateway check` does.
    """
    components = msgspec.json.schema_components([Config], ref_template=_DEFS)[1]
    for kind in _structs(Config, {}).values():
        _describe(components[kind.__name__], kind)
    root = components.pop(Config.__name__)
    root["properties"]["version"] = {**root["properties"]["version"], "const": VERSION}
    root["properties"]["tiers"] |= {"propertyNames": {"enum": list(TIERS)}, "minProperties": 1}
    title = {"$schema": DIALECT, "title": "Configuration of glm-gateway"}
    return {**title, **{k: v for k, v in root.items() if k != "title"}, "$defs": components}


def text() -> str:
    """The schema as it is written to a file."""
    return json.dumps(schema(), indent=2) + "\n"


def _structs(kind: Any, found: dict[str, type[msgspec.Struct]]) -> dict[str, type[msgspec.Struct]]:
    """Every struct that a struct's fields are made of, itself included, by name."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__name__ not in found:
            found[kind.__name__] = kind
            for field in msgspec.structs.fields(kind):
                _structs(field.type, found)
    else:
        for inner in getattr(kind, "__args__", ()):
            _structs(inner, found)
    return found


def _describe(definition: dict[str, Any], kind: type[msgspec.Struct]) -> None:
    words = _words(kind)
    for field in msgspec.structs.fields(kind):
        definition["properties"][field.encode_name]["description"] = words.get(field.name, "")


def _words(kind: type) -> dict[str, str]:
    """The string that stands below each field of a class, as one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    words: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = ast.get_docstring(ast.Module([below], []))
            if said is not None:
                words[field.target.id] = " ".join(said.split())
    return words
