"""A comparison for people: a table, and two plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glm_operator.simulate import plot
from glm_operator.simulate.scenarios import SCENARIOS
from glm_operator.simulate.sweep import OURS, Point, frontier, price
from glm_operator.simulate.world import Outcome

ATTAINMENTS = (0.95, 0.99)


def table(found: Mapping[str, Sequence[Point]]) -> str:
    """GPU hours and pod starts that each law needs for an attainment, per scenario."""
    lines = []
    for name, points in found.items():
        says = SCENARIOS[name].says if name in SCENARIOS else ""
        lines += [f"{name}: {says}".rstrip(": "), _row("law", *_heads()), ""]
        lines[-1] = "  " + "-" * 74
        by_law: dict[str, list[Point]] = {}
        for point in points:
            by_law.setdefault(point.law, []).append(point)
        lines += [_law(law, by_law[law]) for law in by_law]
        lines.append("")
    return "\n".join(lines)


def _heads() -> tuple[str, ...]:
    each = tuple(head for share in ATTAINMENTS for head in (f"GPU h at {share:.0%}", "starts"))
    return (*each, "best", "worst seed")


def _row(law: str, *cells: str) -> str:
    widths = (13, 7, 13, 7, 8, 11)
    return f"  {law:<15}" + "".join(
        f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
    )


def _law(law: str, points: Sequence[Point]) -> str:
    cells: list[str] = []
    for share in ATTAINMENTS:
        found = price(points, share)
        cells += (
            ["never", "-"] if found is None else [f"{found.gpu_hours:.2f}", f"{found.starts:.0f}"]
        )
    best = max(points, key=lambda one: one.mean.attained)
    return _row(law, *cells, f"{best.mean.attained:.1%}", f"{best.worst.attained:.1%}")


def frontier_plot(name: str, points: Sequence[Point]) -> str:
    """Attainment against GPU hours, one line per law, as SVG."""
    laws: dict[str, list[Point]] = {}
    for point in points:
        laws.setdefault(point.law, []).append(point)
    most = max(one.mean.gpu_hours for one in points)
    least = 80.0 if any(one.mean.attained > 0.8 for one in points) else 0.0
    axes = plot.Axes(
        f"{name}: objectives met against GPU hours",
        "GPU hours",
        "% met",
        plot.marks(0.0, most),
        tuple(least + (100.0 - least) * part / 5 for part in range(6)),
    )
    lines = [
        plot.Line(law, [(one.gpu_hours, 100 * one.attained) for one in frontier(found)])
        for law, found in laws.items()
    ]
    return plot.draw(axes, lines)


def time_plot(name: str, outcomes: Mapping[str, Outcome]) -> str:
    """Replicas that are ready over time, one line per law, as SVG."""
    histories = {law: outcome.history for law, outcome in outcomes.items()}
    end = max(history[-1][0] for history in histories.values()) / 60
    most = max(ready for history in histories.values() for _, _, ready, _ in history)
    axes = plot.Axes(
        f"{name}: replicas that are ready",
        "minutes",
        "ready",
        plot.marks(0.0, end),
        plot.marks(0.0, float(max(most, 1))),
    )
    lines = [
        plot.Line(law, [(at / 60, float(ready)) for at, _, ready, _ in history], dots=False)
        for law, history in histories.items()
    ]
    return plot.draw(axes, lines)


def as_data(found: Mapping[str, Sequence[Point]]) -> dict[str, list[dict[str, float | str]]]:
    """All points, for JSON."""
    return {name: [_data(one) for one in points] for name, points in found.items()}


def _data(point: Point) -> dict[str, float | str]:
    middle = point.mean
    return {
        "law": point.law,
        "setpoint": point.setpoint,
        "attained": round(middle.attained, 5),
        "attainedInterval": round(point.spread, 5),
        "attainedWorstSeed": round(point.worst.attained, 5),
        "gpuHours": round(middle.gpu_hours, 3),
        "starts": round(middle.starts, 1),
        "reversals": round(middle.reversals, 1),
        "lost": round(middle.lost, 1),
        "firstTokenP99Seconds": round(middle.first_p99, 3),
    }


def chosen(points: Sequence[Point], share: float = 0.95) -> Mapping[str, float]:
    """The cheapest setpoint of each law that reaches an attainment, else its best."""
    found: dict[str, float] = {}
    for law in {one.law for one in points}:
        own = [one for one in points if one.law == law]
        good = [one for one in own if one.mean.attained >= share]
        best = (
            min(good, key=lambda one: one.mean.gpu_hours)
            if good
            else max(own, key=lambda one: one.mean.attained)
        )
        found[law] = best.setpoint
    return dict(sorted(found.items(), key=lambda item: item[0] != OURS))
