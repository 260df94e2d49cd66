"""A small line chart as SVG: logarithmic axes, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 44, 46
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444; }
.title { font-size: 14px; }
.grid { stroke: #8884; }
.bar { stroke: #b42; stroke-dasharray: 6 4; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) { text { fill: #ccc; } }
"""
COLOURS = ("#2a78d6", "#1a9c6b")
"""Readable on white and on black alike."""
POINT_RADIUS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One series of positive values."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axes:
    """What is shown, from where to where; both axes are logarithmic."""

    title: str
    horizontal: str
    xs: tuple[float, ...]
    """Marks of the horizontal axis, the first and last being its ends."""
    ys: tuple[float, ...]
    bar: float
    """A value to stay below."""

    def x(self, value: float) -> float:
        """Horizontal place in pixels."""
        return LEFT + _part(value, self.xs) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place in pixels; what lies below the axis is drawn on it."""
        part = _part(max(value, self.ys[0]), self.ys)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def _part(value: float, marks: tuple[float, ...]) -> float:
    least, most = math.log(marks[0]), math.log(marks[-1])
    return (math.log(value) - least) / (most - least)


def draw(axes: Axes, lines: Sequence[Line]) -> str:
    """The chart as an SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{axes.title}</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 20, axes.title, "start", "title"),
        *_grid(axes),
        f'<path class="bar" d="M{LEFT} {axes.y(axes.bar):.1f}H{WIDTH - RIGHT}"/>',
    ]
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        parts += _line(axes, line, colour, number)
    return "\n".join([*parts, "</svg>", ""])


def _grid(axes: Axes) -> list[str]:
    rows = [f'<path class="grid" d="M{LEFT} {axes.y(y):.1f}H{WIDTH - RIGHT}"/>' for y in axes.ys]
    heights = [_text(LEFT - 8, axes.y(y) + 4, f"{y:g} ms", "end") for y in axes.ys]
    columns = [_text(axes.x(x), HEIGHT - BOTTOM + 18, f"{x:,.0f}", "middle") for x in axes.xs]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*rows, *heights, *columns, _text(middle, HEIGHT - 8, axes.horizontal, "middle")]


def _line(axes: Axes, line: Line, colour: str, number: int) -> list[str]:
    places = [(axes.x(x), axes.y(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{POINT_RADIUS}" fill="{colour}"/>' for x, y in places
    ]
    height = TOP + 14 + number * 18
    return [
        f'<path class="line" stroke="{colour}" d="M{path}"/>',
        *dots,
        f'<path class="line" stroke="{colour}" d="M{LEFT + 12} {height - 4}h22"/>',
        _text(LEFT + 42, height, line.name, "start"),
    ]


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{words}</text>'
