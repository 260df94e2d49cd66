"""Entries of API keys, as a Secret or a keys file has them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from glm_serving.gateway.keys import Entries, read_entries


def digest(key: str) -> str:
    """What stands in an entry for a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def entry(key: str, **fields: Any) -> dict[str, Any]:
    """An entry."""
    return {"sha256": digest(key), **fields}


def entries(**keys: dict[str, Any]) -> Entries:
    """Entries as they are read from a Secret."""
    return read_entries({name: json.dumps(value).encode() for name, value in keys.items()})


def named(**keys: dict[str, Any]) -> Entries:
    """Entries whose keys are their names."""
    return entries(**{name: entry(name, **fields) for name, fields in keys.items()})
