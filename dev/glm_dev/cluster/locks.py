"""Locks between commands that leave nothing behind: no file, and gone with their process."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from glm_dev.cluster.errors import ClusterError

POLL_SECONDS = 0.05


@contextmanager
def exclusive(what: str, seconds: float) -> Iterator[None]:
    """One process of this machine at a time for `what`, a name in words.

    The lock is an abstract Unix socket, which the kernel frees when its process ends, however
    that happens (unix(7)).

    Raises:
        ClusterError: another process held it all the time.
    """
    deadline = time.monotonic() + seconds
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while not _bound(lock, f"\0glm-operator: {what}"):
            if time.monotonic() > deadline:
                raise ClusterError(f"Another command is still busy with {what}; try again later.")
            time.sleep(POLL_SECONDS)
        yield


def _bound(lock: socket.socket, name: str) -> bool:
    try:
        lock.bind(name)
    except OSError:
        return False
    return True
