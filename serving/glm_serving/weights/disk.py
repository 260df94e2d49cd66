"""Locks, space and lasting writes on the disk that keeps the copies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from glm_serving.weights import reasons
from glm_serving.weights.errors import WeightsError

Free = Callable[[Path], int]
"""Folder -> bytes that may still be written to its disk."""


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write to the disk of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def require_space(folder: Path, wanted: int, free: Free) -> None:
    """See that `wanted` more bytes have room.

    Raises:
        WeightsError: DiskTooSmall, with the exact shortage.
    """
    room = free(folder)
    if wanted > room:
        raise WeightsError(
            reasons.DISK_TOO_SMALL,
            f"{wanted} more bytes must be written and {room} are free on the disk, {wanted - room} "
            "too few: free space on it, or use a larger one.",
        )


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file, which is made; `waiting` is called once if another one holds it."""
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if _still(path, file.fileno()):
                yield
                return


def _still(path: Path, descriptor: int) -> bool:
    """Whether the locked file is the one that others would lock: it may be swept meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def settle(path: Path) -> None:
    """Let the content of a file, or the names in a folder, outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
