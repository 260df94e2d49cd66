"""How far a task has come, told by `GET /state` while it runs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from glm_serving.compat import override

WINDOW_SECONDS = 10.0
"""The rate is that of the last seconds."""
LEAST_SECONDS = 3.0
"""A rate of less than this is chance: connections still open, or a first burst came at once."""
STATE_PATH = "/state"


class Stage(StrEnum):
    """What is being done."""

    READING = "Reading"
    WAITING = "Waiting"
    """Another Job on the same disk fetches the same checkpoint."""
    FETCHING = "Fetching"
    VERIFYING = "Verifying"
    DONE = "Done"


class Progress:
    """Counts bytes; may be used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._stage = Stage.READING
        self._file = ""
        self._trouble = ""
        self._bytes = 0
        self._total = 0
        self._moved = 0
        self._seen: deque[tuple[float, int]] = deque()

    @property
    def moved(self) -> int:
        """Bytes that came from the hub so far; it never falls."""
        return self._moved

    def enter(self, stage: Stage) -> None:
        """Begin a stage."""
        with self._lock:
            self._stage = stage

    def expect(self, total: int, present: int) -> None:
        """Begin to fetch `total` bytes, of which some are there already."""
        with self._lock:
            self._total, self._bytes = total, present
            self._stage = self._fetching()

    def work_on(self, file: str) -> None:
        """Name the file at hand."""
        with self._lock:
            self._file = file

    def suffer(self, trouble: str) -> None:
        """Tell what keeps the next byte from coming, as a sentence; the byte ends it."""
        with self._lock:
            self._trouble = trouble

    def add(self, number: int) -> None:
        """Count bytes that came from the hub; negative: they were thrown away."""
        with self._lock:
            self._trouble = "" if number > 0 else self._trouble
            self._bytes += number
            self._moved += max(0, number)
            self._stage = self._fetching()
            self._seen.append((self._clock(), self._moved))
            self._forget()

    def state(self) -> dict[str, Any]:
        """What `GET /state` answers."""
        with self._lock:
            self._forget()
            return {
                "stage": str(self._stage),
                "bytes": self._bytes,
                "totalBytes": self._total,
                "bytesPerSecond": self._rate(),
                "file": self._file,
                "trouble": self._trouble,
            }

    def _fetching(self) -> Stage:
        return Stage.VERIFYING if self._bytes >= self._total else Stage.FETCHING

    def _forget(self) -> None:
        """Keep one mark from before the window, from which the rate counts."""
        start = self._clock() - WINDOW_SECONDS
        while len(self._seen) > 1 and self._seen[1][0] <= start:
            self._seen.popleft()

    def _rate(self) -> int:
        """0 where nothing moved in the window, or the first byte came less than seconds ago."""
        if not self._seen:
            return 0
        since, before = self._seen[0]
        seconds = self._clock() - since
        return int((self._moved - before) / seconds) if seconds >= LEAST_SECONDS else 0


@contextmanager
def served(progress: Progress, port: int | None) -> Iterator[int | None]:
    """Answer `GET /state` on a port of every address while the block runs; None: do not."""
    if port is None:
        yield None
        return
    handler = type("StateOfTask", (_Handler,), {"progress": progress})
    with _Server(("", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    """On every address of the pod, of either family."""

    daemon_threads = True
    if socket.has_dualstack_ipv6():
        address_family = socket.AF_INET6

    @override
    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    timeout = 10
    progress: Progress

    def do_GET(self) -> None:
        """Answer with the state, and nothing else."""
        found = self.path == STATE_PATH
        body = json.dumps(self.progress.state()).encode() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Polls are no news."""
