"""The hub itself: the part of the HTTP API that the real client uses to read models."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from typing_extensions import override

from glm_dev.hub import answers
from glm_dev.hub.answers import Refusal
from glm_dev.hub.faults import Faults, Served
from glm_dev.hub.repository import DEFAULT_BRANCH, Access, Blob, Commit, Repository

CHUNK_BYTES = 1 << 20
SLICES = 20
"""A slowed transfer moves this often in a second."""
MODEL = re.compile(r"^/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?/?$")
FILE = re.compile(r"^/([^/]+/[^/]+)/resolve/([^/]+)/(.+)$")
STORE = re.compile(r"^/store/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)$")
"""Where large files are sent on to, as the real hub does."""
RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")
IDLE_SECONDS = 60


@dataclass
class Hub:
    """Repositories, and what is wrong with them at the moment."""

    faults: Faults = field(default_factory=Faults)
    served: Served = field(default_factory=Served)
    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    """Tokens of accounts that may read nothing of note."""
    store: str = ""
    """Another address of the same server, to send large files from; empty: the client's own."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(
        self,
        name: str,
        folder: Path,
        *,
        branch: str = DEFAULT_BRANCH,
        access: Access = Access.PUBLIC,
        readers: Iterable[str] = (),
        hashed: bool = True,
    ) -> str:
        """Make a commit of a folder on a branch of `organisation/name`; returns its name.

        Without `hashed` large files have made-up checksums: enough to be read, not to be fetched.
        """
        repository = self.repositories.setdefault(name, Repository(name))
        repository.access, repository.readers = access, frozenset(readers)
        return repository.publish(folder, branch, hashed).sha

    def known_tokens(self) -> frozenset[str]:
        """Every token that belongs to somebody."""
        readers = (token for each in self.repositories.values() for token in each.readers)
        return frozenset((*self.tokens, *readers))

    @contextmanager
    def running(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
        """Serve while the block runs; gives the address for HF_ENDPOINT."""
        server = _server(self, host, port)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            self.faults.release.set()
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in mid-transfer is what tests do here."""


def _server(hub: Hub, host: str, port: int) -> _Server:
    handler = type("BoundHandler", (_Handler,), {"hub": hub})
    return _Server((host, port), handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    hub: Hub

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: `Served` remembers."""

    def do_HEAD(self) -> None:
        """Answer with headers alone."""
        self._answer()

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if self._ill(path):
            self._refuse(Refusal(HTTPStatus.SERVICE_UNAVAILABLE))
        elif found := MODEL.match(path):
            self._model(found[1], found[2] or "", unquote(found[3] or DEFAULT_BRANCH))
        elif found := FILE.match(path):
            self._file(found[1], unquote(found[2]), unquote(found[3]))
        elif found := STORE.match(path):
            commit = self.hub.repositories[found[1]].commits[found[2]]
            self._content(commit, commit.blobs[unquote(found[3])])
        else:
            self._refuse(Refusal(HTTPStatus.NOT_FOUND))

    def _ill(self, path: str) -> bool:
        """Note the request; whether the hub is unavailable for it."""
        faults = self.hub.faults
        with self.hub.lock:
            self.hub.served.requests.append((self.command, path, self._range_text()))
            self.hub.served.bearers.add((self.headers.get("Host", ""), self._token()))
            ill = faults.unavailable != 0
            faults.unavailable -= faults.unavailable > 0
        return ill

    def _find(self, name: str, revision: str) -> tuple[Repository, Commit] | Refusal:
        repository = self.hub.repositories.get(name)
        if refusal := answers.refused(repository, self._token(), self.hub.known_tokens()):
            return refusal
        assert repository is not None
        commit = repository.find(revision)
        return answers.no_revision(revision) if commit is None else (repository, commit)

    def _model(self, name: str, part: str, revision: str) -> None:
        found = self._find(name, revision)
        if isinstance(found, Refusal):
            self._refuse(found)
        elif part == "tree":
            self._json(answers.tree(found[1]))
        else:
            self._json(answers.model_info(*found))

    def _file(self, name: str, revision: str, file: str) -> None:
        found = self._find(name, revision)
        if isinstance(found, Refusal):
            self._refuse(found)
            return
        repository, commit = found
        blob = commit.blobs.get(file)
        if not repository.open_to(self._token()):
            self._refuse(answers.gated(repository, self._token()))
        elif blob is None or file in self.hub.faults.gone:
            self._refuse(answers.no_entry(file))
        elif blob.large:
            self._send_on(repository, commit, blob)
        else:
            self._content(commit, blob)

    def _send_on(self, repository: Repository, commit: Commit, blob: Blob) -> None:
        store = self.hub.store or f"http://{self.headers['Host']}"
        where = f"{store}/store/{repository.name}/{commit.sha}/{blob.name}"
        headers = {**answers.file_headers(blob, commit), "Location": where}
        self._refuse(Refusal(HTTPStatus.FOUND, headers))

    def _content(self, commit: Commit, blob: Blob) -> None:
        size = self.hub.faults.truncate.get(blob.name, blob.size)
        start, end = self._range(size)
        if start >= size > 0:
            self._refuse(Refusal(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE))
            return
        partial = bool(self._range_text())
        self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
        for key, value in answers.file_headers(blob, commit).items():
            self.send_header(key, value)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if self.command == "GET":
            self._send(blob, start, end)

    def _send(self, blob: Blob, start: int, end: int) -> None:
        served, at = self.hub.served, start
        spoil = self._begin(blob, start)
        with blob.path.open("rb") as file:
            file.seek(start)
            while at < end and self._passes(blob.name, at, at - start):
                chunk = file.read(min(end - at, self._step(blob.name, at, at - start)))
                self.wfile.write(_spoilt(chunk, spoil - at))
                at += len(chunk)
                with self.hub.lock:
                    served.bytes[blob.name] += len(chunk)

    def _begin(self, blob: Blob, start: int) -> int:
        """Count the transfer; the place of the byte that it changes, -1 for none."""
        corrupt = self.hub.faults.corrupt
        with self.hub.lock:
            if start > 0:
                return -1
            self.hub.served.transfers[blob.name] += 1
            if corrupt[blob.name] == 0:
                return -1
            corrupt[blob.name] -= 1
        return blob.size // 2

    def _step(self, name: str, at: int, sent: int) -> int:
        """How much to send at once: up to the next place where something happens."""
        faults = self.hub.faults
        ahead = (faults.hold_after.get(name, 0) - at, faults.cut_after.get(name, 0) - sent)
        slow = max(1, faults.bytes_per_second // SLICES) if faults.bytes_per_second else CHUNK_BYTES
        return min(CHUNK_BYTES, slow, *(step for step in ahead if step > 0))

    def _passes(self, name: str, at: int, sent: int) -> bool:
        """Wait as the faults want; whether the transfer goes on."""
        faults = self.hub.faults
        if faults.hold_after.get(name) == at:
            faults.held.set()
            faults.release.wait(IDLE_SECONDS)
        if faults.cut_after.get(name) == sent:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return False
        if faults.bytes_per_second:
            time.sleep(1 / SLICES)
        return True

    def _token(self) -> str:
        return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

    def _range_text(self) -> str:
        asked = str(self.headers.get("Range", ""))
        return "" if self.hub.faults.no_ranges else asked

    def _range(self, size: int) -> tuple[int, int]:
        found = RANGE.match(self._range_text())
        if found is None:
            return 0, size
        return int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)

    def _json(self, content: Any) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _refuse(self, refusal: Refusal) -> None:
        self.send_response(refusal.status)
        for key, value in refusal.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _spoilt(chunk: bytes, at: int) -> bytes:
    """The chunk with its byte `at` changed, where it has such a one."""
    if not 0 <= at < len(chunk):
        return chunk
    return chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]
