"""Lines of text that fit a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

PIPE_WIDTH = 100
"""Columns where the output is no terminal."""
NARROWEST = 80
GAP = "  "


def terminal_width() -> int:
    """Columns to write for."""
    if not sys.stdout.isatty():
        return PIPE_WIDTH
    return max(NARROWEST, shutil.get_terminal_size((PIPE_WIDTH, 24)).columns)


def wrapped(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    """One paragraph; lines after the first begin with `hanging`. Words are never cut."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=hanging or indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def columns(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows of cells under each other; a cell that is too wide goes on in the next line."""
    count = len(rows[0])
    first = max(1, *(len(row[0]) for row in rows))
    share = max(1, (width - first) // max(1, count - 1) - len(GAP))
    widths = [first, *(_fitting((row[at] for row in rows), share) for at in range(1, count))]
    return [line for row in rows for line in _lines(row, widths)]


def _fitting(cells: Iterable[str], share: int) -> int:
    return max(1, min(share, max(len(cell) for cell in cells)))


def _lines(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = [wrapped(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    return [
        GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()
        for line in zip_longest(*parts, fillvalue="")
    ]
