"""A tokenizer without a vocabulary: markers and short pieces of words, always the same."""

from __future__ import annotations

import re

_PIECE = re.compile(r"</?[a-z_]{2,20}>|\s*[^\s<]{1,4}|\s+|<")


def split(text: str) -> list[str]:
    """Pieces that joined give the text again: GLM's markers whole, else four letters at most."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """How many pieces a text has."""
    return sum(1 for _ in _PIECE.finditer(text))
