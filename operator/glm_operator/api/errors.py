"""From a raw object to the models, with one clear sentence where it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

SHOWN_LENGTH = 80
"""Longest value quoted in an error, in characters."""


class InvalidObject(ValueError):
    """An object does not obey the schema; the text is one sentence for its author."""


def read(model: type[M], raw: Mapping[str, Any]) -> M:
    """Validate a raw object. Raises `InvalidObject`."""
    try:
        return model.model_validate(dict(raw))
    except ValidationError as error:
        raise InvalidObject(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    """The first problem in full, and how many there are besides."""
    # A misspelt field is also a missing one: the name that is there leads to the mistake.
    details = sorted(
        error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden"
    )
    first = _problem(details[0])
    others = len(details) - 1
    return first if not others else f"{first} (and {others} more)"


def _problem(detail: Any) -> str:
    path = _path(detail["loc"])
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return f"{path} is required"
    if kind == "extra_forbidden":
        return f"{path} is not a field of a GLMDeployment"
    if kind == "value_error":
        return f"{path}: {context['error']}"
    return f"{path} is {_shown(detail['input'])}: {_demand(detail)}"


def _path(location: tuple[str | int, ...]) -> str:
    """The place in the object, written as kubectl writes it."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the object"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


def _demand(detail: Any) -> str:
    """What the field asks for, from pydantic's own words."""
    if detail["type"] == "string_type" and isinstance(detail["input"], int | float):
        return f'must be a string, write it in quotes: "{str(detail["input"]).lower()}"'
    message = str(detail["msg"])
    return message.replace("Input should be", "must be").replace("String should", "must")
