"""Tokens of images from their headers."""

from __future__ import annotations

import base64
import io
import struct

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


def size(url: str) -> tuple[int, int] | None:
    return images.size_at(url, url.find(",") + 1)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif"}),
    ],
)
def test_the_size_is_read_from_the_header(kind: str, options: dict[str, object]) -> None:
    assert size(data_url(321, 123, kind, **options)) == (321, 123)


def test_a_bitmap_may_have_its_rows_from_the_top_or_the_oldest_header() -> None:
    top = b"BM" + bytes(12) + struct.pack("<Iii", 40, 30, -20)
    old = b"BM" + bytes(12) + struct.pack("<IHH", 12, 30, 20) + bytes(4)
    for data in (top, old):
        assert images.size_at(base64.b64encode(data + bytes(8)).decode(), 0) == (30, 20)


def test_the_size_of_a_jpeg_behind_large_metadata_is_read() -> None:
    exif = Image.Exif()
    exif[270] = "x" * 40000
    assert size(data_url(64, 48, "JPEG", exif=exif)) == (64, 48)


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
def test_a_header_that_does_not_tell_gives_no_size(url: str) -> None:
    assert size(url) is None


@given(st.binary(max_size=400))
def test_any_bytes_have_a_size_or_none(data: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBPVP8 ", b"GIF89a", b"BM"):
        found = images.size_at(base64.b64encode(start + data).decode(), 0)
        assert found is None or min(found) > 0


@given(st.text(max_size=400))
def test_any_text_has_a_size_or_none(text: str) -> None:
    assert images.size_at(text, 0) is None
