"""Token counts of a response, read from its tail while it passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_BYTES = 4096
"""The usage object stands at the end of a response; more of it is not kept."""

BYTES_PER_TOKEN = 4
_USAGE = b'"usage":'
_SEQUENCE = re.compile(rb'"sequence_number":\s*(\d{1,12})')


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

    def events(self) -> int:
        """Events so far of a stream that numbers them from 0, as far as the tail tells."""
        numbers = _SEQUENCE.findall(self._kept)
        return int(numbers[-1]) + 1 if numbers else 0

    def has_any(self, marks: tuple[bytes, ...]) -> bool:
        """Whether one of these stands in the tail."""
        return any(mark in self._kept for mark in marks)


def _number(count: re.Pattern[bytes], kept: bytearray, at: int) -> int:
    found = count.search(kept, at)
    return int(found[1]) if found else 0


def estimated(prompt_tokens: int, completion: int | None, body_bytes: int) -> Usage:
    """Usage that was not reported; without a count of the completion by the size of the answer."""
    counted = body_bytes // BYTES_PER_TOKEN if completion is None else completion
    return Usage(prompt_tokens, counted, reported=False)
