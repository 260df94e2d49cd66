"""Reading a configuration file: errors name it, and so are keys that have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from glm_serving.gateway.config import Config, parse
from glm_serving.gateway.errors import ConfigError

SCHEMA_KEY = "$schema"
"""Names the schema for an editor; the gateway does not look at it."""


def read(path: Path) -> tuple[Config, list[str]]:
    """The configuration in a file, and its keys that have no effect.

    Raises:
        ConfigError: the file cannot be read or used; the message names it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    try:
        config = parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return config, list(_unknown(msgspec.json.decode(text), msgspec.to_builtins(config)))


def _unknown(given: Any, known: Any, where: str = "") -> Iterator[str]:
    """The keys of what was given that are not in what was understood of it."""
    if isinstance(given, Mapping) and isinstance(known, Mapping):
        for key, value in given.items():
            if key in known:
                yield from _unknown(value, known[key], f"{where}{key}.")
            elif key != SCHEMA_KEY:
                yield f"{where}{key}"
    elif isinstance(given, Sequence) and isinstance(known, Sequence) and not isinstance(given, str):
        for index, (one, other) in enumerate(zip(given, known, strict=False)):
            yield from _unknown(one, other, f"{where}{index}.")


def unknown_sentence(path: Path, key: str) -> str:
    """What is said of a key that has no effect."""
    return (
        f"{path}: {key} is no key of the configuration and has no effect: see `glm-gateway schema`"
    )
