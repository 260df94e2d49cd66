"""The gateway without sockets: what is written to either side, and calls that can be counted."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Wire(asyncio.Transport):
    """A connection that never pushes back; `writes` is what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.writes += [bytes(data) for data in list_of_data]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def receive(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Let a connection read these bytes."""
    buffer = protocol.get_buffer(-1)
    memoryview(buffer)[: len(data)] = data
    protocol.buffer_updated(len(data))


def calls_of(work: Callable[[], object]) -> int:
    """How many functions, Python's and built-in ones, a piece of work calls."""
    count = 0

    def seen(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count
