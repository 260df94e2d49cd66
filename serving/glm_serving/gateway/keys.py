"""API keys of clients: named entries, each with the hash of a key and what it may do.

Entries are the same in a Secret (name -> JSON text) and in a keys file (one JSON object of them).
The key itself is in neither: `glm-gateway key` makes one and prints its entry.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from glm_serving.gateway.config import TIERS, Positive
from glm_serving.gateway.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Team = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]{0,63}$")]


class Entry(
    msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True
):
    """What is written of one key. Unknown fields are refused: a misspelt limit would be none."""

    sha256: Digest
    """Of the key's bytes, in hexadecimal."""
    team: Team = ""
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    max_in_flight: Positive | None = None
    tiers: tuple[str, ...] = ()
    """The tiers that the key may use; none named: all."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as requests know it. What is None is no limit."""

    name: str = ""
    team: str = ""
    tiers: frozenset[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_in_flight: int | None = None


ANYONE = Key()
"""Whoever comes while no keys are asked for."""


class KeyRing:
    """Finds the key that a client presents.

    Compared are hashes under a secret of this process, so that the time of a look-up tells
    nothing of the hashes that are kept.
    """

    def __init__(self, keys: Iterable[tuple[str, Key]] = ()) -> None:
        self._secret = secrets.token_bytes(32)
        self._keys = {self._blinded(bytes.fromhex(digest)): key for digest, key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, presented: bytes) -> Key | None:
        """The key with this text, if there is one."""
        return self._keys.get(self._blinded(hashlib.sha256(presented).digest()))

    def names(self) -> frozenset[str]:
        """The names of all keys."""
        return frozenset(key.name for key in self._keys.values())

    def _blinded(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=32).digest()


@dataclass(frozen=True, slots=True)
class Entries:
    """What was read: the keys, and a sentence for each entry that cannot be used.

    Such an entry lets nobody in and leaves the others alone.
    """

    ring: KeyRing | None
    """None: there is no file or Secret."""
    troubles: tuple[str, ...] = ()


def read_file(text: bytes) -> Entries:
    """The entries of a keys file.

    Raises:
        ConfigError: it is not one JSON object.
    """
    try:
        found = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"the keys cannot be read: {error}") from error
    return read_entries({name: bytes(raw) for name, raw in found.items()})


def read_entries(texts: Mapping[str, bytes]) -> Entries:
    """The entries with these JSON texts. No sentence holds a part of an entry's text."""
    keys: dict[str, Key] = {}
    troubles: list[str] = []
    for name, text in sorted(texts.items()):
        try:
            entry = entry_of(name, text)
        except ConfigError as error:
            troubles.append(str(error))
            continue
        if entry.sha256 in keys:
            other = keys[entry.sha256].name
            troubles.append(f"entry {name!r} has the same key as {other!r}: give it its own")
            continue
        keys[entry.sha256] = _key(name, entry)
    return Entries(KeyRing(keys.items()), tuple(troubles))


def entry_of(name: str, text: bytes) -> Entry:
    """The entry with this name and JSON text.

    Raises:
        ConfigError: it cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"entry {name[:128]!r}: a name has up to 128 of A-Z a-z 0-9 . _ -")
    if not text.lstrip().startswith(b"{"):
        raise ConfigError(f"entry {name!r} is no JSON object: make one with `glm-gateway key`")
    try:
        entry = msgspec.json.decode(text, type=Entry)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"entry {name!r} cannot be read: {error}") from error
    unknown = sorted(set(entry.tiers) - set(TIERS))
    if unknown:
        raise ConfigError(f"entry {name!r} has tiers {unknown}: use {', '.join(TIERS)}")
    return entry


def _key(name: str, entry: Entry) -> Key:
    return Key(
        name=name,
        team=entry.team,
        tiers=frozenset(entry.tiers) or None,
        requests_per_minute=entry.requests_per_minute,
        tokens_per_minute=entry.tokens_per_minute,
        max_in_flight=entry.max_in_flight,
    )
