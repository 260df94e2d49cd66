"""List and watch against the Kubernetes API server, without a client library.

Only what the gateway needs: two kinds of objects in one namespace, read with the pod's own
service account. Token and CA are read again for each connection, because they rotate.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import httptools

from glm_serving.gateway.errors import ConfigError

API_VARIABLE = "GLM_GATEWAY_KUBE_API"
"""Address of the API server, `http[s]://host:port`; unset inside a cluster."""
ACCOUNT_VARIABLE = "GLM_GATEWAY_SERVICE_ACCOUNT"
"""Folder with `token` and `ca.crt`; unset inside a cluster."""
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONNECT_SECONDS = 10.0
READ_BYTES = 64 * 1024
MAX_LINE_BYTES = 4 * 1024 * 1024
"""An object is at most 1.5 MiB in etcd; a longer line is not one."""


class KubeError(Exception):
    """The API server did not do what was asked; `status` is its HTTP status, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where the API server is and who we are."""

    host: str
    port: int
    secure: bool
    account: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> ApiServer:
        """The API server of the cluster that this pod runs in.

        Raises:
            ConfigError: this is no pod, and no address is given.
        """
        account = Path(environment.get(ACCOUNT_VARIABLE, _ACCOUNT))
        address = environment.get(API_VARIABLE)
        if address:
            parts = urlsplit(address)
            secure = parts.scheme == "https"
            return cls(parts.hostname or "", parts.port or (443 if secure else 80), secure, account)
        host = environment.get("KUBERNETES_SERVICE_HOST")
        if not host:
            raise ConfigError(
                f"KUBERNETES_SERVICE_HOST is not set: run in a pod, or set {API_VARIABLE}"
            )
        port = int(environment.get("KUBERNETES_SERVICE_PORT", "443"))
        return cls(host, port, True, account)

    def authorization(self) -> str:
        """The header's value.

        Raises:
            KubeError: the token cannot be read.
        """
        try:
            return f"Bearer {(self.account / 'token').read_text().strip()}"
        except OSError as error:
            raise KubeError(f"{self.account / 'token'}: {error.strerror}") from error

    def context(self) -> ssl.SSLContext | None:
        """TLS that trusts the cluster's CA only.

        Raises:
            KubeError: the CA cannot be read.
        """
        if not self.secure:
            return None
        try:
            return ssl.create_default_context(cafile=str(self.account / "ca.crt"))
        except OSError as error:
            raise KubeError(f"{self.account / 'ca.crt'}: {error.strerror}") from error


class _Response:
    """Parser callbacks of one response."""

    def __init__(self) -> None:
        self.headers_done = False
        self.complete = False
        self.pieces: list[bytes] = []

    def on_headers_complete(self) -> None:
        """Parser callback."""
        self.headers_done = True

    def on_body(self, data: bytes) -> None:
        """Parser callback."""
        self.pieces.append(data)

    def on_message_complete(self) -> None:
        """Parser callback."""
        self.complete = True

    def take(self) -> bytes:
        """The body bytes since the last call."""
        pieces, self.pieces = self.pieces, []
        return b"".join(pieces)


async def get(server: ApiServer, path: str, query: Mapping[str, str], seconds: float) -> bytes:
    """The body of one answer.

    Raises:
        KubeError: the API server cannot be reached, refuses, or does not answer in `seconds`.
    """
    async with contextlib.aclosing(_pieces(server, path, query, seconds)) as pieces:
        return b"".join([piece async for piece in pieces])


async def lines(
    server: ApiServer, path: str, query: Mapping[str, str], seconds: float
) -> AsyncGenerator[bytes, None]:
    """The lines of an answer that goes on, each as it arrives; ends with the answer.

    Raises:
        KubeError: as in `get`; `seconds` is the longest silence.
    """
    rest = b""
    async with contextlib.aclosing(_pieces(server, path, query, seconds)) as pieces:
        async for piece in pieces:
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line
            if len(rest) > MAX_LINE_BYTES:
                raise KubeError(f"{path}: an event is over {MAX_LINE_BYTES} bytes")


async def _pieces(
    server: ApiServer, path: str, query: Mapping[str, str], seconds: float
) -> AsyncGenerator[bytes, None]:
    response = _Response()
    parser = httptools.HttpResponseParser(response)
    try:
        reader, writer = await _open(server)
        try:
            writer.write(_request(server, path, query))
            while not response.complete:
                async with asyncio.timeout(seconds):
                    data = await reader.read(READ_BYTES)
                if not data:
                    raise KubeError(f"{path}: the connection ended inside the answer")
                parser.feed_data(data)
                piece = response.take()
                if response.headers_done and parser.get_status_code() != 200:
                    status = parser.get_status_code()
                    raise KubeError(f"{path}: {status} {piece[:200]!r}", status)
                if piece:
                    yield piece
        finally:
            writer.transport.abort()
    except (OSError, httptools.HttpParserError) as error:
        raise KubeError(f"{path}: {error or type(error).__name__}") from error


async def _open(server: ApiServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = server.context()
    async with asyncio.timeout(CONNECT_SECONDS):
        return await asyncio.open_connection(server.host, server.port, ssl=context)


def _request(server: ApiServer, path: str, query: Mapping[str, str]) -> bytes:
    lines = (
        f"GET {path}?{urlencode(query)} HTTP/1.1",
        f"host: {server.host}:{server.port}",
        f"authorization: {server.authorization()}",
        "accept: application/json",
        "user-agent: glm-gateway",
        "connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode()
