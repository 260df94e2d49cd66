"""Token counts of a response, read from its tail while it passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_BYTES = 4096
"""The usage object stands at the end of a response; more of it is not kept."""

_USAGE = b'"usage":'


def _count(name: str) -> re.Pattern[bytes]:
    return re.compile(rb'"%s":\s*(\d{1,12})' % name.encode())


@dataclass(frozen=True, slots=True)
class Counts:
    """Where one API reports tokens."""

    prompt: tuple[re.Pattern[bytes], ...]
    """The parts that the prompt is counted in; the first is always there."""
    completion: re.Pattern[bytes]
    opening: bytes = b""
    """Marks the event that reports before there is anything to report, if there is one."""


CHAT = Counts((_count("prompt_tokens"),), _count("completion_tokens"))
RESPONSES = Counts((_count("input_tokens"),), _count("output_tokens"))
MESSAGES = Counts(
    (
        _count("input_tokens"),
        _count("cache_read_input_tokens"),
        _count("cache_creation_input_tokens"),
    ),
    _count("output_tokens"),
    opening=b'"type":"message_start"',
)
"""`input_tokens` leaves out what the cache had."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one response; `reported` by the engine, else estimated by the gateway."""

    prompt: int
    completion: int
    reported: bool


class Tail:
    """The last bytes of a response."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = bytearray()

    def push(self, data: bytes) -> None:
        """Add bytes that passed."""
        if len(data) >= TAIL_BYTES:
            self._kept[:] = data[-TAIL_BYTES:]
            return
        self._kept += data
        if len(self._kept) > 4 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]

    def usage(self, counts: Counts) -> Usage | None:
        """The usage that the engine reported, if it stands in the tail.

        In text of the model a quote is escaped, so the key cannot be mistaken.
        """
        kept = self._kept
        at = kept.rfind(_USAGE)
        if at < 0 or (
            counts.opening and kept.find(counts.opening, kept.rfind(b"\n", 0, at), at) >= 0
        ):
            return None
        if counts.prompt[0].search(kept, at) is None:
            return None
        prompt = sum(_number(part, kept, at) for part in counts.prompt)
        return Usage(prompt, _number(counts.completion, kept, at), reported=True)

    def has_any(self, marks: tuple[bytes, ...]) -> bool:
        """Whether one of these stands in the tail."""
        return any(mark in self._kept for mark in marks)


def _number(count: re.Pattern[bytes], kept: bytearray, at: int) -> int:
    found = count.search(kept, at)
    return int(found[1]) if found else 0


def estimated(prompt_tokens: int, events: int, opening_events: int, body_bytes: int) -> Usage:
    """Usage that was not reported: a stream carries about one token per event after its opening."""
    completion = events - opening_events if events else body_bytes // 4
    return Usage(prompt_tokens, max(completion, 0), reported=False)
