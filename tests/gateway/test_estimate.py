"""The estimate of tokens beside real counts.

The counts in token-counts.json were made with two public tokenizers, cl100k and Qwen's, of which
GLM's has the construction: the splitting pattern of the first, and Chinese words as the second.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_fakes import DATA
from glm_serving.gateway.facts import estimate

COUNTED = json.loads((DATA / "token-counts.json").read_text())


@pytest.mark.parametrize("sample", COUNTED, ids=[one["kind"] for one in COUNTED])
def test_the_estimate_is_near_the_count(sample: dict[str, Any]) -> None:
    off = estimate.text_tokens([sample["text"]]) / sample["tokens"] - 1
    assert abs(off) <= sample["withinPercent"] / 100


def test_a_sample_stands_for_a_long_text() -> None:
    texts = [one["text"] for one in COUNTED if one["withinPercent"] == 15] * 5
    whole = sum(one["tokens"] for one in COUNTED if one["withinPercent"] == 15) * 5
    assert sum(map(len, texts)) > 10 * estimate.SAMPLE_CHARS
    assert abs(estimate.text_tokens(texts) / whole - 1) <= 0.15


@given(st.lists(st.text(), max_size=5))
def test_no_text_has_more_tokens_than_characters(texts: list[str]) -> None:
    assert 0 <= estimate.text_tokens(texts) <= sum(map(len, texts)) + len(texts)


@pytest.mark.parametrize("text", ["-" * 100_000, " " * 100_000, "\u4f60" * 100_000, "a1" * 50_000])
def test_a_monotonous_text_has_an_estimate(text: str) -> None:
    assert len(text) / 100 < estimate.text_tokens([text]) <= len(text)
