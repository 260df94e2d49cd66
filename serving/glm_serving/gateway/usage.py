"""Token counts of a response, read from its tail while it passes."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAIL_BYTES = 4096
"""The usage object stands at the end of a response; more of it is not kept."""

_USAGE = b'"usage":'
_PROMPT = re.compile(rb'"prompt_tokens":\s*(\d{1,12})')
_COMPLETION = re.compile(rb'"completion_tokens":\s*(\d{1,12})')


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

    def usage(self) -> Usage | None:
        """The usage that the engine reported, if it stands in the tail.

        In text of the model a quote is escaped, so the key cannot be mistaken.
        """
        at = self._kept.rfind(_USAGE)
        if at < 0:
            return None
        prompt = _PROMPT.search(self._kept, at)
        if prompt is None:
            return None
        completion = _COMPLETION.search(self._kept, at)
        return Usage(int(prompt[1]), int(completion[1]) if completion else 0, reported=True)


def estimated(prompt_tokens: int, events: int, body_bytes: int) -> Usage:
    """Usage that was not reported: streams carry about one token per event after the first."""
    completion = events - 1 if events else body_bytes // 4
    return Usage(prompt_tokens, max(completion, 0), reported=False)
