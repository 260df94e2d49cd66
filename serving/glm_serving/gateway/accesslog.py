"""One JSON line per request on standard output, written in batches. No text of a prompt."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

FLUSH_BYTES = 32 * 1024


class Entry(msgspec.Struct, rename="camel", omit_defaults=True):
    """One request."""

    time: float
    """Seconds since the epoch at its end."""
    id: str
    path: str = ""
    status: int = 0
    model: str = ""
    """Only a name that the gateway knows."""
    tier: str = ""
    replica: str = ""
    reason: str = ""
    rule: str = ""
    error: str = ""
    degraded: str = ""
    """The tier that was chosen, where a weaker one answered."""
    task: str = ""
    key: str = ""
    """Name of the client's key, never the key."""
    team: str = ""
    session: str = ""
    trace: str = ""
    """The trace id of `traceparent`."""
    phase: str = ""
    """Where an unfinished request stood."""
    attempts: int = 0
    stream: bool = False
    held_milliseconds: int | None = None
    """Missing where a replica was there at once; 0 is a very short wait."""
    first_token_milliseconds: int | None = None
    total_milliseconds: int | None = None
    """Missing where the gateway answered by itself."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    image_tokens: int | None = None
    """The part of the prompt that images take, estimated."""
    token_source: str = ""
    sent_bytes: int = 0


class AccessLog:
    """Collects lines; `flush` hands them to `write`, by default standard output."""

    def __init__(self, write: Callable[[bytes], object] | None = None) -> None:
        self._write = write or _to_stdout
        self._encoder = msgspec.json.Encoder()
        self._buffer = bytearray()

    def add(self, entry: Entry) -> None:
        """Log one request."""
        self._buffer += self._encoder.encode(entry)
        self._buffer += b"\n"
        if len(self._buffer) >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            self._write(data)


def _to_stdout(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
