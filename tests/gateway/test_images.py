"""Tokens of images from their headers."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from glm_serving.gateway import images


def data_url(width: int, height: int, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "navy").save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    [
        (224, 224, 64),
        (640, 480, 391),
        (1024, 1024, 1369),
        (1920, 1080, 2691),
        (3840, 2160, 6032),
        (78 * 28, 78 * 28, 6084),
        (1, 1, 9),
    ],
)
def test_published_sizes(width: int, height: int, tokens: int) -> None:
    assert images.tokens(width, height) == tokens


@given(st.integers(1, 30000), st.integers(1, 30000))
def test_no_image_is_over_the_processors_bound(width: int, height: int) -> None:
    assert images.tokens(width, height) >= 1
    if max(width, height) < 100 * min(width, height):
        assert images.tokens(width, height) <= 6144


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_size_is_read_from_the_header(kind: str) -> None:
    assert images.size_of_url(data_url(321, 123, kind)) == (321, 123)


def test_the_size_of_a_jpeg_behind_large_metadata_is_read() -> None:
    exif = Image.Exif()
    exif[270] = "x" * 40000
    assert images.size_of_url(data_url(64, 48, "JPEG", exif=exif)) == (64, 48)


@pytest.mark.parametrize(
    "url",
    [
        "data:image/webp;base64,UklGRiQAAABXRUJQVlA4",
        "data:image/png;base64,iVBORw0KGgo=",
        "data:image/png;base64,not base64 at all",
        "data:image/png,plain",
        "data:image/png;base64",
        "data:image/jpeg;base64,/9j/4AAQ",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAAAAAAACAYAAAAfFcSJ",
    ],
)
def test_an_unknown_size_counts_as_a_full_hd_screenshot(url: str) -> None:
    assert images.tokens_of_url(url) == 2691


@given(st.binary(max_size=400))
def test_any_bytes_give_a_cost(data: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"):
        url = "data:image/png;base64," + base64.b64encode(start + data).decode()
        assert images.tokens_of_url(url) > 0
