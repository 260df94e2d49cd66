"""How many tokens an image costs, from its header alone."""

from __future__ import annotations

import base64
import binascii
import math
import struct

from glm_dev.simulator.errors import ApiError

MERGED_PATCH = 28
"""Pixels per side of one token: patch 14 times spatial merge 2."""
LONGEST_EDGE = 9_633_792
"""`size.longest_edge` of GLM-4.6V's image processor: at most 6,144 tokens per image."""
SHORTEST_EDGE = 112 * 112
"""`size.shortest_edge` of the same: a smaller image is scaled up, to 8 tokens or more."""
TEMPORAL_PATCH = 2
UNKNOWN_SIZE = (224, 224)
"""Taken where the format's header is not one of those read here."""


def image_tokens(width: int, height: int) -> int:
    """Tokens of one image, as `smart_resize` of transformers' GLM-4.6V image processor counts."""
    wide = max(MERGED_PATCH, round(width / MERGED_PATCH) * MERGED_PATCH)
    high = max(MERGED_PATCH, round(height / MERGED_PATCH) * MERGED_PATCH)
    if TEMPORAL_PATCH * wide * high > LONGEST_EDGE:
        beta = math.sqrt(TEMPORAL_PATCH * width * height / LONGEST_EDGE)
        wide = max(MERGED_PATCH, math.floor(width / beta / MERGED_PATCH) * MERGED_PATCH)
        high = max(MERGED_PATCH, math.floor(height / beta / MERGED_PATCH) * MERGED_PATCH)
    elif TEMPORAL_PATCH * wide * high < SHORTEST_EDGE:
        beta = math.sqrt(SHORTEST_EDGE / (TEMPORAL_PATCH * width * height))
        wide = math.ceil(width * beta / MERGED_PATCH) * MERGED_PATCH
        high = math.ceil(height * beta / MERGED_PATCH) * MERGED_PATCH
    return (wide // MERGED_PATCH) * (high // MERGED_PATCH)


def data_url_tokens(url: str) -> int:
    """Tokens of the image in a `data:` URL. Raises ApiError where vLLM answers 400."""
    head, comma, payload = url.partition(",")
    if not head.startswith("data:") or not comma:
        raise ApiError.bad_request(
            "The URL must be from one of the allowed domains: ['no-media.invalid']. "
            f"Input URL domain: {url.partition('://')[2].partition('/')[0] or url[:40]}"
        )
    try:
        start = base64.b64decode(payload[: 64 * 1024], validate=True)
    except (binascii.Error, ValueError):
        raise ApiError.bad_request("Non-base64 digit found") from None
    return image_tokens(*_size(start))


def _size(data: bytes) -> tuple[int, int]:
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    return UNKNOWN_SIZE


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments to the start of frame, which holds height and width."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        at += 2 + length
    return UNKNOWN_SIZE
