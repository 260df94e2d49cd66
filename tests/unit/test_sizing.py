"""docs/sizing.md and the comments of examples/ are the planner's own words; every example fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from glm_dev.sizing import claims, examples, page
from glm_operator import catalog

RENEW = (
    "see whether each changed line is meant, then renew it with `python -m glm_dev.sizing --write`"
)
WANTED = {
    "8xH100-80GB",
    "4xA100-80GB",
    "8xL40S-48GB",
    "2xH200-141GB",
    "1xH200-141GB",
    "8xB200-180GB",
    "8xMI300X-192GB",
    "4xL4-24GB",
    "1xRTX4090-24GB",
}


def named(example: Path) -> str:
    return example.stem


def test_the_page_is_what_the_planner_says() -> None:
    assert page.FILE.read_text() == page.page(), f"docs/sizing.md differs: {RENEW}"


def test_every_preset_has_a_table() -> None:
    heads = [line for line in page.page().splitlines() if line.startswith("### ")]
    assert heads == [f"### {preset}" for preset in catalog.MODELS]


def test_every_common_shape_has_an_example() -> None:
    assert {example.stem for example in examples.examples()} >= WANTED


@pytest.mark.parametrize("example", examples.examples(), ids=named)
def test_an_example_fits_the_node_it_is_for(example: Path) -> None:
    found = examples.planned(example)
    assert found.fits, found.message


@pytest.mark.parametrize("example", examples.examples(), ids=named)
def test_an_example_says_what_one_gets(example: Path) -> None:
    assert example.read_text() == examples.renewed(example), f"{example.name} differs: {RENEW}"


@pytest.mark.parametrize("example", examples.examples(), ids=named)
def test_an_example_still_fits_when_flash_has_scaled(example: Path) -> None:
    totals = examples.planned(example).totals()
    gpus = int(examples.shape_of(example).partition("x")[0])
    assert example.stem not in WANTED or totals["maxGpus"] <= gpus


def test_every_claim_is_complete() -> None:
    found = claims.published()
    keys = {"preset", "quantization", "published", "source", "why"}
    assert [one for one in found["sizes"] if one.keys() != keys] == []
    assert [one for one in found["nodes"] if one.keys() != keys | {"shape"}] == []
    used = {one["source"] for kind in ("sizes", "nodes") for one in found[kind]}
    assert used == set(found["sources"])


@pytest.mark.parametrize(
    ("row", "gigabytes"),
    [*enumerate([215.4, 215.4, 215.4, 110.0, 110.0, 20.59, 20.59, 12.43, 8.48])],
)
def test_computed_sizes_are_those_of_the_research(row: int, gigabytes: float) -> None:
    one = claims.published()["sizes"][row]
    form = catalog.Format(one["quantization"])
    size = catalog.weight_bytes(catalog.get(one["preset"]), form) / 1e9
    assert size == pytest.approx(gigabytes, rel=0.01)
