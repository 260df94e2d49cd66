"""Just enough HTML: everything that is not markup already is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that is safe to write as it is."""

    html: str


Content = Markup | str | int | float | None
"""What a place of the page shows; None shows nothing."""


def escaped(content: Content) -> str:
    """The HTML of some content."""
    if isinstance(content, Markup):
        return content.html
    return "" if content is None else html.escape(str(content))


def joined(parts: Iterable[Content]) -> Markup:
    """Contents one after the other."""
    return Markup("".join(map(escaped, parts)))


def element(name: str, *contents: Content, **attributes: str) -> Markup:
    """An element; a trailing underscore of an attribute's name is dropped, as in `class_`."""
    given = "".join(
        f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items() if value
    )
    return Markup(f"<{name}{given}>{joined(contents).html}</{name}>")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; numbers stand on the right."""

    title: str
    number: bool = False

    @property
    def style(self) -> str:
        """The class of its cells."""
        return "number" if self.number else ""


def table(columns: Sequence[Column], rows: Iterable[Sequence[Content]], empty: str) -> Markup:
    """A table, or the sentence that stands for one without rows."""
    lines = [_line(columns, row) for row in rows]
    if not lines:
        return element("p", empty, class_="none")
    head = element("tr", *(element("th", c.title, class_=c.style, scope="col") for c in columns))
    inner = element("table", element("thead", head), element("tbody", *lines))
    return element("div", inner, class_="wide")


def _line(columns: Sequence[Column], row: Sequence[Content]) -> Markup:
    cells = zip(columns, row, strict=True)
    return element("tr", *(element("td", cell, class_=column.style) for column, cell in cells))
