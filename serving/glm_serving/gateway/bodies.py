"""Checks on a body that a JSON decoder does not make: its encoding and repeated keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import INVALID_REQUEST

Body = bytes | bytearray

_LONG_CHARS = 4096
"""Data URLs from this length on are skipped when keys are counted."""
_MAX_EXACT_BYTES = 4 * 1024 * 1024
"""Text beside media that is decoded a second time when a key may be repeated."""
_ESCAPED_LETTERS = (b"\\u006", b"\\u007")
"""How a key could hide from a search for its letters."""


_SMALL_BODY_BYTES = 4 * 1024 * 1024
_MAX_VALUES = ((b"{", 200_000, "objects"), (b",", 2_000_000, "values"))
"""What a body may have of each: all of them decoded stay below a few hundred MiB."""


def check_size(body: Body) -> None:
    """Refuse a body of so many values that decoding it would take more memory than it has bytes.

    Large bodies are media, which have none of these bytes and are passed over fast.

    Raises:
        Refusal: it has too many objects or values.
    """
    if len(body) <= _SMALL_BODY_BYTES:
        return
    for mark, most, kind in _MAX_VALUES:
        found, at = 0, body.find(mark)
        while at >= 0:
            found += 1
            if found > most:
                raise Refusal(INVALID_REQUEST, f"the body has more than {most} {kind}: send fewer")
            at = body.find(mark, at + 1)


def check_text(body: Body, urls: Iterable[str], keys: Sequence[str]) -> None:
    """Refuse a body that is not UTF-8, or that repeats one of `keys` at its top level.

    Decoders disagree on which of two equal keys counts, so what the gateway judged might not be
    what the engine serves. `urls` are the media that were decoded from it, in order.

    Raises:
        Refusal: the body is not UTF-8 or repeats a key.
    """
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise Refusal(INVALID_REQUEST, f"the body is not UTF-8: {error.reason}") from error
    text = _without_media(body, urls)
    once = all(text.count(b'"%s"' % key.encode()) <= 1 for key in keys)
    if once and not any(escape in text for escape in _ESCAPED_LETTERS):
        return
    _check_exactly(text, keys)


def _without_media(body: Body, urls: Iterable[str]) -> Body:
    """The body without its long data URLs, which hold no quote and so no key."""
    kept: list[Body] = []
    at = 0
    for url in urls:
        if len(url) < _LONG_CHARS:
            continue
        start = body.find(url[:64].encode(), at)
        end = start + len(url)
        if start < 0 or body[end : end + 1] != b'"' or body.find(b'"', start, end) >= 0:
            return body
        kept.append(body[at:start])
        at = end
    return b"".join([*kept, body[at:]]) if kept else body


def _check_exactly(text: Body, keys: Sequence[str]) -> None:
    if len(text) > _MAX_EXACT_BYTES:
        raise Refusal(
            INVALID_REQUEST,
            f"the body has {len(text)} bytes beside media and may repeat a key of {list(keys)}: "
            f"send at most {_MAX_EXACT_BYTES}",
        )
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise Refusal(INVALID_REQUEST, f"the body cannot be read: {error}") from error
    names = [name for name, _ in pairs]
    for key in keys:
        if names.count(key) > 1:
            raise Refusal(INVALID_REQUEST, f"{key} is given twice: send it once", key)
