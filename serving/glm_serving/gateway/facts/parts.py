"""Content parts as chat completions and responses write them; engines read both alike."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts.conversation import Turn
from glm_serving.gateway.facts.decoding import ABSENT
from glm_serving.gateway.facts.media import MediaReader
from glm_serving.gateway.reasons import INVALID_REQUEST, UNSUPPORTED_MODALITY


class Link(msgspec.Struct):
    """Media in an object of its own."""

    url: str = ""


class Part(msgspec.Struct):
    """One part. Its fields count, not `type`: vLLM reads a part without one by its fields."""

    text: str | None = None
    refusal: str | None = None
    image_url: str | Link | None = None
    video_url: str | Link | None = None
    audio_url: msgspec.Raw = ABSENT
    input_audio: msgspec.Raw = ABSENT
    image_embeds: msgspec.Raw = ABSENT
    audio_embeds: msgspec.Raw = ABSENT
    video_embeds: msgspec.Raw = ABSENT
    prompt_embeds: msgspec.Raw = ABSENT
    file: msgspec.Raw = ABSENT
    file_id: msgspec.Raw = ABSENT
    file_data: msgspec.Raw = ABSENT
    file_url: msgspec.Raw = ABSENT
    uuid: msgspec.Raw = ABSENT
    type: str | None = None


Content = str | list[Part | str] | None

_UNSUPPORTED = (
    ("audio_url", "audio"),
    ("input_audio", "audio"),
    ("image_embeds", "an embedding"),
    ("audio_embeds", "an embedding"),
    ("video_embeds", "an embedding"),
    ("prompt_embeds", "an embedding"),
    ("file", "a file"),
    ("file_id", "a file"),
    ("file_data", "a file"),
    ("file_url", "a file"),
)


def read(content: Content, turn: Turn, media: MediaReader, where: str) -> None:
    """Put the texts and media of a message into its turn.

    Raises:
        Refusal: a part is of a kind that no tier takes, or its media are not allowed.
    """
    if isinstance(content, str):
        turn.texts.append(content)
    elif content is not None:
        _read_parts(content, turn, media, where)


def _read_parts(parts: Sequence[Part | str], turn: Turn, media: MediaReader, where: str) -> None:
    for place, part in enumerate(parts):
        if isinstance(part, str):
            turn.texts.append(part)
            continue
        at = f"{where}[{place}]"
        _check_kind(part, at)
        turn.texts += [text for text in (part.text, part.refusal) if text is not None]
        if part.image_url is not None:
            turn.media.append(media.image(_url(part.image_url), f"{at}.image_url"))
        if part.video_url is not None:
            turn.media.append(media.video(_url(part.video_url), f"{at}.video_url"))


def _check_kind(part: Part, where: str) -> None:
    for field, kind in _UNSUPPORTED:
        if getattr(part, field) is not ABSENT and getattr(part, field) != ABSENT:
            raise Refusal(UNSUPPORTED_MODALITY, f"{where} is {kind}: no tier takes it", where)
    if part.uuid is not ABSENT and part.uuid != ABSENT:
        # An engine takes what it has under this name, whoever sent that.
        raise Refusal(
            INVALID_REQUEST,
            f"{where}.uuid names media that an engine may keep: leave it out and send the media",
            f"{where}.uuid",
        )


def _url(link: str | Link) -> str:
    return link if isinstance(link, str) else link.url
