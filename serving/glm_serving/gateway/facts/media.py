"""Images and videos of a request: what they cost, and which the gateway takes. Nothing is fetched.

References: vLLM CVE-2026-24779 (two parsers of one URL), CVE-2026-5497 (frames without bound),
CVE-2026-34755 (bombs), CVE-2025-6242 (any host).
"""

from __future__ import annotations

import re
import zlib

import msgspec

from glm_serving.gateway import images
from glm_serving.gateway.config import Media
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts.urls import check_url
from glm_serving.gateway.reasons import INVALID_REQUEST, MEDIA_TOO_LARGE

INLINE_ONLY = Media()
"""No media by URL, and the limits that are the default."""
VIDEO_TOKENS = 30000
"""Upper end of one video (the processor's default of 28*28*2*30000 pixels)."""
_FRAME_TOKENS = 8
"""Markers and time stamp around the tokens of two frames."""
_EDGE_CHARS = 65536
_DATA_HEADER = re.compile(r"data:([a-z]+/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[a-z0-9.-]+)*;base64,", re.I)
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+", re.I)
_FRAMES_TYPE = "video/jpeg"
"""vLLM's own: the frames of a video as JPEGs, with commas between them."""


class Medium(msgspec.Struct, frozen=True):
    """One image or video."""

    key: int
    """Of its first and last 64 KiB and its length: equal media have equal keys."""
    tokens: int
    pixels: int = 0
    """Width times height; 0 where the header does not tell them."""
    video: bool = False


class MediaReader:
    """Reads the media of one request by their headers, and refuses what nobody may serve."""

    def __init__(self, rules: Media) -> None:
        self._rules = rules
        self._pixels = 0
        self.texts: list[str] = []
        """Every URL or data, as it stands in the body, in order."""

    def image(self, url: str, where: str) -> Medium:
        """An image by a data URL or by an allowed URL.

        Raises:
            Refusal: its URL is not allowed, or it has too many pixels.
        """
        self.texts.append(url)
        if not url.startswith("data:"):
            check_url(url, where, self._rules)
            return Medium(_key(url, 0), images.UNKNOWN_SIZE_TOKENS)
        return self._still(url, _header(url, where).end(), where)

    def image_data(self, media_type: str, data: str, where: str) -> Medium:
        """An image in base64, beside its type.

        Raises:
            Refusal: the type is none, or it has too many pixels.
        """
        self.texts.append(data)
        if _MEDIA_TYPE.fullmatch(media_type) is None:
            raise Refusal(
                INVALID_REQUEST,
                f"{where}.media_type is {media_type[:100]!r}: write it as image/png",
                f"{where}.media_type",
            )
        return self._still(data, 0, where)

    def video(self, url: str, where: str) -> Medium:
        """A video by a data URL or by an allowed URL.

        Raises:
            Refusal: its URL is not allowed, or it has too many frames or pixels.
        """
        self.texts.append(url)
        if not url.startswith("data:"):
            check_url(url, where, self._rules)
            return Medium(_key(url, 0), VIDEO_TOKENS, video=True)
        header = _header(url, where)
        tokens = VIDEO_TOKENS
        if header[1].lower() == _FRAMES_TYPE:
            tokens = self._frames(url, header.end(), where)
        return Medium(_key(url, header.end()), tokens, video=True)

    def _still(self, text: str, start: int, where: str) -> Medium:
        size = images.size_at(text, start)
        if size is None:
            return Medium(_key(text, start), images.UNKNOWN_SIZE_TOKENS)
        self._check(size, where)
        return Medium(_key(text, start), images.tokens(*size), size[0] * size[1])

    def _frames(self, url: str, start: int, where: str) -> int:
        count = url.count(",", start) + 1
        most = self._rules.max_video_frames
        if count > most:
            message = f"{where} has {count} frames: at most {most} are taken; send fewer"
            raise Refusal(MEDIA_TOO_LARGE, message, where)
        largest = 0
        for _ in range(count):
            size = images.size_at(url, start)
            if size is not None:
                self._check(size, where)
                largest = max(largest, images.tokens(*size))
            start = url.find(",", start) + 1
        # Two frames share their tokens.
        each = (largest or images.UNKNOWN_SIZE_TOKENS) + _FRAME_TOKENS
        return min((count + 1) // 2 * each, VIDEO_TOKENS)

    def _check(self, size: tuple[int, int], where: str) -> None:
        wide, high = size
        self._pixels += wide * high
        if wide * high > self._rules.max_image_pixels:
            raise Refusal(
                MEDIA_TOO_LARGE,
                f"{where} has {wide} x {high} pixels: at most {self._rules.max_image_pixels} are "
                "taken; scale it down",
                where,
            )
        if self._pixels > self._rules.max_request_pixels:
            raise Refusal(
                MEDIA_TOO_LARGE,
                f"the media up to {where} have {self._pixels} pixels: at most "
                f"{self._rules.max_request_pixels} are taken in one request; send fewer or smaller",
                where,
            )


def _header(url: str, where: str) -> re.Match[str]:
    header = _DATA_HEADER.match(url)
    if header is None:
        raise Refusal(
            INVALID_REQUEST,
            f"{where} begins with {url[:40]!r}: write it as data:image/png;base64,...",
            where,
        )
    return header


def _key(text: str, start: int) -> int:
    """Not for security: whoever forges a key only spoils the choice of a replica."""
    size = len(text) - start
    first = zlib.crc32(text[start : start + _EDGE_CHARS].encode("utf-8", "surrogatepass"))
    last = first
    if size > _EDGE_CHARS:
        at = max(start + _EDGE_CHARS, len(text) - _EDGE_CHARS)
        last = zlib.crc32(text[at:].encode("utf-8", "surrogatepass"))
    return size << 64 | first << 32 | last
