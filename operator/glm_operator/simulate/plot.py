"""Plots of a comparison as SVG: readable on a light and on a dark page, no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 44, 46
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #444; }
.title { font-size: 14px; }
.grid { stroke: #8884; }
.line { fill: none; stroke-width: 2; }
@media (prefers-color-scheme: dark) { text { fill: #ccc; } }
"""
COLOURS = ("#2a78d6", "#1a9c6b", "#c9642b", "#9a5bd0", "#b8901e", "#d2477f")
"""Readable on white and on black alike."""


@dataclass(frozen=True, slots=True)
class Line:
    """One series."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = True


@dataclass(frozen=True, slots=True)
class Axes:
    """What is shown; both axes are linear."""

    title: str
    horizontal: str
    vertical: str
    xs: tuple[float, ...]
    """Marks, the first and last being the ends."""
    ys: tuple[float, ...]

    def x(self, value: float) -> float:
        """Horizontal place in pixels."""
        return LEFT + _part(value, self.xs) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place in pixels."""
        return HEIGHT - BOTTOM - _part(value, self.ys) * (HEIGHT - TOP - BOTTOM)


def _part(value: float, marks: tuple[float, ...]) -> float:
    part = (value - marks[0]) / (marks[-1] - marks[0])
    return min(1.0, max(0.0, part))


def marks(least: float, most: float, count: int = 6) -> tuple[float, ...]:
    """Round marks from `least` to at least `most`."""
    span = max(most - least, 1e-9) / (count - 1)
    unit: float = 10.0 ** len(str(int(span))) / 10.0 if span >= 1 else 0.1
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= span)
    return tuple(least + step * index for index in range(count))


def draw(axes: Axes, lines: Sequence[Line]) -> str:
    """The plot as an SVG document."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{axes.title}</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 20, axes.title, "start", "title"),
        *_grid(axes),
    ]
    for number, line in enumerate(lines):
        parts += _line(axes, line, COLOURS[number % len(COLOURS)], number)
    return "\n".join([*parts, "</svg>", ""])


def _grid(axes: Axes) -> list[str]:
    end = WIDTH - RIGHT
    rows = [f'<path class="grid" d="M{LEFT} {axes.y(y):.1f}H{end}"/>' for y in axes.ys]
    heights = [_text(LEFT - 8, axes.y(y) + 4, f"{y:g}", "end") for y in axes.ys]
    columns = [_text(axes.x(x), HEIGHT - BOTTOM + 18, f"{x:g}", "middle") for x in axes.xs]
    named = [
        _text((LEFT + end) / 2, HEIGHT - 8, axes.horizontal, "middle"),
        _text(LEFT, TOP - 8, axes.vertical, "end"),
    ]
    return [*rows, *heights, *columns, *named]


def _line(axes: Axes, line: Line, colour: str, number: int) -> list[str]:
    places = [(axes.x(x), axes.y(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    height, start = TOP + 14 + number * 18, WIDTH - RIGHT + 16
    return [
        f'<path class="line" stroke="{colour}" d="M{path}"/>' if places else "",
        *(dots if line.dots else ()),
        f'<path class="line" stroke="{colour}" d="M{start} {height - 4}h22"/>',
        _text(start + 28, height, line.name, "start"),
    ]


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{words}</text>'
