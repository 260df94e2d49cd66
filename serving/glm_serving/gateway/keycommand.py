"""`glm-gateway key`: make an API key and the entry that lets it in."""

from __future__ import annotations

import argparse
import hashlib
import json
import secrets
from collections.abc import Sequence

import msgspec

from glm_serving.gateway.config import TIERS
from glm_serving.gateway.keys import Entry, entry_of

PREFIX = "glm-"
"""So that people, and programs that look for leaked keys, know one when they see it."""
KEY_BYTES = 32
"""Enough that nobody finds the key of a hash; a password that somebody chose is not."""


def make(argv: Sequence[str]) -> str:
    """A new key, its entry, and how to add it.

    Raises:
        ConfigError: a value cannot be part of an entry.
    """
    arguments = _parser().parse_args(argv)
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    entry = Entry(
        sha256=hashlib.sha256(key.encode()).hexdigest(),
        team=arguments.team,
        requests_per_minute=arguments.requests_per_minute,
        tokens_per_minute=arguments.tokens_per_minute,
        max_in_flight=arguments.max_in_flight,
        tiers=tuple(arguments.tier),
    )
    text = msgspec.json.encode(entry)
    entry_of(arguments.name, text)
    return _page(arguments.name, key, text.decode())


def _page(name: str, key: str, entry: str) -> str:
    patch = json.dumps({"stringData": {name: entry}})
    return (
        f"The key, which is kept nowhere and shown this once:\n\n  {key}\n\n"
        f"Its line of a keys file:\n\n  {json.dumps(name)}: {entry}\n\n"
        "Or in a Secret that exists (add -n NAMESPACE):\n\n"
        f"  kubectl patch secret glm-api-keys --patch '{patch}'\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="glm-gateway key",
        description="Make an API key and print its entry. Limits that are not given are none.",
    )
    parser.add_argument("name", help="name of the entry, as the access log will have it")
    parser.add_argument("--team", default="", help="team for metrics and the access log")
    parser.add_argument("--requests-per-minute", type=int, metavar="N")
    parser.add_argument("--tokens-per-minute", type=int, metavar="N", help="prompts and answers")
    parser.add_argument("--max-in-flight", type=int, metavar="N", help="requests at once")
    parser.add_argument(
        "--tier",
        action="append",
        default=[],
        metavar="TIER",
        help=f"a tier that it may use ({', '.join(TIERS)}); may be repeated; none: all",
    )
    return parser
