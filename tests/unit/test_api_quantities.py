"""Quantities as the API server writes them."""

from __future__ import annotations

from typing import Any

import pytest

from glm_operator.api.quantities import whole


@pytest.mark.parametrize(
    ("amount", "count"),
    [
        ("8", 8),
        (8, 8),
        ("+8", 8),
        ("0", 0),
        ("1k", 1000),
        ("1.5k", 1500),
        ("2M", 2_000_000),
        ("3G", 3 * 10**9),
        ("1T", 10**12),
        ("1P", 10**15),
        ("1E", 10**18),
        ("1Ki", 1024),
        ("0.5Mi", 1 << 19),
        ("1Gi", 1 << 30),
        ("1Ti", 1 << 40),
        ("1Pi", 1 << 50),
        ("7Ei", 7 << 60),
        ("2000m", 2),
        ("3000000u", 3),
        ("4000000000n", 4),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12.5e+1", 125),
        ("5000e-3", 5),
        ("1.", 1),
        ("8.0", 8),
    ],
)
def test_every_way_to_write_a_whole_number_is_understood(amount: Any, count: int) -> None:
    assert whole(amount) == count


@pytest.mark.parametrize(
    "amount", ["1500m", "0.1", ".5", "1n", "1e-1"], ids=lambda amount: str(amount)
)
def test_a_fraction_is_no_whole_number(amount: str) -> None:
    assert whole(amount) is None


@pytest.mark.parametrize(
    "amount",
    ["", "x", "-1", "1kk", "1 k", "1K", "k", ".", "1e", "1e999999999", "9" * 5000, None, True, {}],
    ids=lambda amount: repr(amount)[:20],
)
def test_what_is_no_quantity_is_no_number(amount: Any) -> None:
    assert whole(amount) is None
