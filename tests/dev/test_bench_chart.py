"""The growth curve of docs/benchmarks.md is drawn by the benchmark itself."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from glm_dev.bench.chart import HEIGHT, WIDTH, Axes, Line, draw
from glm_dev.bench.plan import SIZES, Point, chart, point, table

SVG = "{http://www.w3.org/2000/svg}"
AXES = Axes("title", "nodes", xs=(10, 100, 1000), ys=(1, 10, 100), bar=100)


def test_equal_factors_are_equal_distances() -> None:
    assert AXES.x(100) - AXES.x(10) == pytest.approx(AXES.x(1000) - AXES.x(100))
    assert AXES.y(1) - AXES.y(10) == pytest.approx(AXES.y(10) - AXES.y(100))
    assert AXES.y(0.01) == AXES.y(1)


def test_every_point_is_drawn_inside_the_picture() -> None:
    document = draw(AXES, [Line("a", [(10, 1), (1000, 100)]), Line("b", [(100, 0.5)])])
    dots = ElementTree.fromstring(document).findall(f"{SVG}circle")
    places = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in dots]
    assert len(places) == 3
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in places)


def test_the_planners_chart_and_table_show_every_size() -> None:
    measured = [Point(size, size // 5, 1, 1.0 + size / 100, 2.0 + size / 100) for size in SIZES]
    assert len(ElementTree.fromstring(chart(measured)).findall(f"{SVG}circle")) == 2 * len(SIZES)
    assert len(re.findall(r"^\| [0-9]", table(measured), re.MULTILINE)) == len(SIZES)


def test_the_measured_cluster_is_nearly_full_and_others_wait_in_it() -> None:
    found = point(10, 1)
    assert (found.objects, found.waiting) == (2, 1)
    assert found.alone > 0
    assert found.shared > 0
