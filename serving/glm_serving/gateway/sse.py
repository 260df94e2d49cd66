"""Server-sent events: whole events are passed on at once, a torn one waits for its rest."""

from __future__ import annotations

MAX_TORN_BYTES = 64 * 1024
"""A longer event is passed on in pieces; then a break inside it cannot be told politely."""


class EventStream:
    """Cuts a byte stream after complete events, whatever pieces it arrives in.

    The concatenation of what `push` and `rest` return is exactly what was pushed.
    """

    __slots__ = ("_mark", "_torn", "marked", "mid_event")

    def __init__(self, mark: bytes = b"data: {") -> None:
        self._mark = mark
        self._torn = b""
        self.marked = 0
        """How often the mark was passed on: with an event's first bytes, its events."""
        self.mid_event = False
        """Whether bytes of an unfinished event were passed on."""

    def push(self, data: bytes) -> bytes:
        """What may be passed on now."""
        if self._torn:
            data, self._torn = self._torn + data, b""
        if not data.endswith((b"\n\n", b"\r\n\r\n")):
            data = self._hold_back(data)
        else:
            self.mid_event = False
        self.marked += data.count(self._mark)
        return data

    def _hold_back(self, data: bytes) -> bytes:
        plain, windows = data.rfind(b"\n\n") + 2, data.rfind(b"\r\n\r\n") + 4
        cut = max(plain if plain > 1 else 0, windows if windows > 3 else 0)
        if len(data) - cut > MAX_TORN_BYTES:
            self.mid_event = True
            return data
        if cut:
            self.mid_event = False
        self._torn = data[cut:]
        return data[:cut]

    def rest(self) -> bytes:
        """What was held back, at the end of the stream."""
        rest, self._torn = self._torn, b""
        return rest
