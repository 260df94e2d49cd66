"""Which conversation a request belongs to, so that its next turn finds the same replica's cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from glm_serving.gateway.facts.conversation import SYSTEM, USER, Turn
from glm_serving.gateway.facts.decoding import Scalar, lenient

_EDGE_CHARS = 4096
"""A long text is known by its length and so much of its beginning and end."""
_DIGEST_BYTES = 8


class _Metadata(msgspec.Struct):
    user_id: Scalar = None


_metadata = msgspec.json.Decoder(_Metadata)
_NONE = _Metadata()


def named(session_id: Scalar, cache_key: Scalar, metadata: msgspec.Raw) -> str:
    """The name that a body gives: `session_id`, `prompt_cache_key`, else `metadata.user_id`."""
    given = session_id or cache_key or lenient(_metadata, metadata, _NONE).user_id
    return _digest("named", str(given)) if given else ""


def of_beginning(turns: Sequence[Turn]) -> str:
    """A hash of the system's text and the first message of the user, which stay as they are."""
    parts = ["began"]
    for turn in turns:
        if turn.role == SYSTEM:
            parts += map(_edges, turn.texts)
        elif turn.role == USER:
            parts += [*map(_edges, turn.texts), *(str(medium.key) for medium in turn.media)]
            break
    return _digest(*parts)


def key(client: str, header: str, session: str) -> str:
    """The conversation of a request, as a replica's cache is remembered by it.

    `client` is the name of its key, `header` the session that a header names, `session` what its
    facts say. Conversations of different clients differ, so that nobody can steer another's.
    """
    return _digest("header", client, header) if header else _digest("body", client, session)


def _edges(text: str) -> str:
    if len(text) <= 2 * _EDGE_CHARS:
        return text
    return f"{len(text)}:{text[:_EDGE_CHARS]}{text[-_EDGE_CHARS:]}"


def _digest(*parts: str) -> str:
    joined = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=_DIGEST_BYTES).hexdigest()
