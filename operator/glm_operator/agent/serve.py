"""/healthz, /readyz and /metrics of the agent, on one port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST
from typing_extensions import override

Answer = tuple[int, bytes]
"""Status and body."""


class _Server(ThreadingHTTPServer):
    """Listens on both versions of IP, where the machine has both."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    @override
    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@contextmanager
def serving(port: int, pages: Mapping[str, Callable[[], Answer]]) -> Iterator[int]:
    """Answer for each of these paths meanwhile; port 0 takes any. Yields the port in use.

    Raises:
        OSError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            status, body = pages.get(self.path.partition("?")[0], lambda: (404, b"not here"))()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """A probe is not worth a line."""

    with _Server(("", port), Handler) as server:
        threading.Thread(target=server.serve_forever, name="serve", daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def health(problem: str) -> Answer:
    """The answer of a health page: what is wrong, or ok."""
    return (503 if problem else 200), (problem or "ok").encode()
