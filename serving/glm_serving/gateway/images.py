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
_RIFF = b"RIFF"
_WEBP = b"WEBP"
_GIF = (b"GIF87a", b"GIF89a")
_BMP = b"BM"
_BMP_CORE_HEADER = 12
_FIRST_CHARS = 1024
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


def size_at(text: str, start: int) -> tuple[int, int] | None:
    """Width and height in pixels from the header of an image in base64 that begins at `start`.

    None where the format is not known or the header is cut.
    """
    first = _decode(text, start, _FIRST_CHARS)
    if first.startswith(_PNG) and len(first) >= 24:
        return _positive(*struct.unpack(">II", first[16:24]))
    if first.startswith(_JPEG):
        return _jpeg_size(first) or _jpeg_size(_decode(text, start, _JPEG_CHARS))
    if first.startswith(_RIFF) and first[8:12] == _WEBP and len(first) >= 30:
        return _webp_size(first)
    if first.startswith(_GIF) and len(first) >= 10:
        return _positive(*struct.unpack("<HH", first[6:10]))
    if first.startswith(_BMP) and len(first) >= 26:
        return _bmp_size(first)
    return None


def _decode(text: str, start: int, chars: int) -> bytes:
    piece = text[start : start + chars]
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


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """The three forms of https://developers.google.com/speed/webp/docs/riff_container."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return _positive(width & 0x3FFF, height & 0x3FFF)
    return None


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    """A height below zero means that rows come from the top."""
    if int.from_bytes(data[14:18], "little") == _BMP_CORE_HEADER:
        return _positive(*struct.unpack("<HH", data[18:22]))
    width, height = struct.unpack("<ii", data[18:26])
    return _positive(width, abs(height))


def _positive(width: int, height: int) -> tuple[int, int] | None:
    return (width, height) if width > 0 and height > 0 else None
