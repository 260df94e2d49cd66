"""The one decode of a body, and the plain values in it."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from glm_serving.gateway.bodies import Body, check_size
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import INVALID_REQUEST

T = TypeVar("T")

Scalar = bool | int | float | str | None
"""A field that the gateway only estimates with: engines read `16.0` and `"16"` as 16."""
ABSENT = msgspec.Raw(b"null")

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
"""Words that engines (pydantic) take for true."""


def decode(decoder: msgspec.json.Decoder[T], body: Body) -> T:
    """Decode a body.

    Raises:
        Refusal: it is no JSON of the decoder's type, or has too many values.
    """
    check_size(body)
    try:
        return decoder.decode(body)
    except RecursionError as error:
        raise Refusal(INVALID_REQUEST, "the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(INVALID_REQUEST, f"the body cannot be read: {error}") from error


def count(value: Scalar) -> int:
    """A number of tokens; 0 where it cannot be read, which is the engine's to refuse."""
    try:
        return max(int(value or 0), 0)
    except (ValueError, OverflowError):
        return 0


def flag(value: Scalar) -> bool:
    """A yes or no, as engines read it."""
    return value.lower() in _TRUE if isinstance(value, str) else bool(value)


def lenient(decoder: msgspec.json.Decoder[T], value: msgspec.Raw, default: T) -> T:
    """A field that the gateway can do without: of another type, it is the engine's to refuse."""
    if value == ABSENT:
        return default
    try:
        return decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return default


def text_of(value: msgspec.Raw) -> str:
    """The JSON of a field as it was sent; empty where it is absent."""
    return "" if value == ABSENT else str(bytes(value), "utf-8", "replace")
