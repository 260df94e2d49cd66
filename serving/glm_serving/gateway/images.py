"""How many tokens an image costs, from the size in its header."""

from __future__ import annotations

import base64
import binascii
import math
import struct

UNKNOWN_SIZE_TOKENS = 2691
"""Tokens of a 1920x1080 image, taken where the size cannot be read."""

_FACTOR = 28
"""Pixels per token side: patch 14 times spatial merge 2."""
_FRAMES = 2
"""A still image counts as two frames (temporal patch 2)."""
_MIN_PIXELS = 112 * 112
_MAX_PIXELS = 9633792
"""`size.longest_edge` of the processor: 14^2 * 2^2 * 2 * 6144."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FIRST_CHARS = 64
_JPEG_CHARS = 128 * 1024
"""A JPEG's size stands behind its metadata, so more of it is decoded; still bounded."""
_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def tokens(width: int, height: int) -> int:
    """Tokens of an image of this many pixels.

    The formula is `smart_resize` of transformers' image processor of GLM-4.6V
    (models/glm46v/image_processing_glm46v.py); for example 640x480 is 391, 1920x1080 is 2691.
    """
    high = max(_FACTOR, round(height / _FACTOR) * _FACTOR)
    wide = max(_FACTOR, round(width / _FACTOR) * _FACTOR)
    if _FRAMES * high * wide > _MAX_PIXELS:
        shrink = math.sqrt(_FRAMES * height * width / _MAX_PIXELS)
        high = max(_FACTOR, math.floor(height / shrink / _FACTOR) * _FACTOR)
        wide = max(_FACTOR, math.floor(width / shrink / _FACTOR) * _FACTOR)
    elif _FRAMES * high * wide < _MIN_PIXELS:
        grow = math.sqrt(_MIN_PIXELS / (_FRAMES * height * width))
        high = math.ceil(height * grow / _FACTOR) * _FACTOR
        wide = math.ceil(width * grow / _FACTOR) * _FACTOR
    return (high // _FACTOR) * (wide // _FACTOR)


def tokens_of_url(url: str) -> int:
    """Tokens of the image in a data URL; 2691 where its header does not tell its size."""
    size = size_of_url(url)
    return tokens(*size) if size else UNKNOWN_SIZE_TOKENS


def size_of_url(url: str) -> tuple[int, int] | None:
    """Width and height in pixels from a PNG or JPEG header in a base64 data URL."""
    start = url.find(",", 0, 256) + 1
    if start == 0 or not url[:start].endswith(";base64,"):
        return None
    first = _decode(url, start, _FIRST_CHARS)
    if first.startswith(_PNG) and len(first) >= 24:
        return _positive(*struct.unpack(">II", first[16:24]))
    if first.startswith(_JPEG):
        return _jpeg_size(_decode(url, start, _JPEG_CHARS))
    return None


def _decode(url: str, start: int, chars: int) -> bytes:
    piece = url[start : start + chars]
    try:
        return base64.b64decode(piece[: len(piece) // 4 * 4])
    except (binascii.Error, ValueError):
        return b""


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return _positive(width, height)
        at += 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None


def _positive(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width > 0 and height > 0 else None
