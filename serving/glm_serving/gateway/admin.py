"""The second port: a page, metrics, health, readiness and `/state`. Never proxied, never public."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools
import msgspec
from prometheus_client import exposition

from glm_serving.compat import override
from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.http import response_head
from glm_serving.gateway.limits import MAX_HEAD_BYTES
from glm_serving.gateway.page import HEADERS, document

_TEXT = b"text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer of the second port."""

    status: int
    content_type: bytes
    body: bytes
    headers: Mapping[bytes, bytes] = field(default_factory=dict)


class Admin:
    """The pages. `not_ready` says why the gateway is not ready, or nothing."""

    def __init__(self, gateway: Gateway, not_ready: Callable[[], str]) -> None:
        self._gateway = gateway
        self._not_ready = not_ready
        self._pages: dict[bytes, Callable[[], Page]] = {
            b"/": self._document,
            b"/metrics": self._metrics,
            b"/healthz": lambda: Page(200, _TEXT, b"ok\n"),
            b"/readyz": self._ready,
            b"/state": self._state,
        }

    def page(self, method: bytes, path: bytes) -> Page:
        """The page at a path."""
        if method != b"GET":
            return Page(405, _TEXT, b"use GET\n")
        page = self._pages.get(path)
        return page() if page else Page(404, _TEXT, b"not found\n")

    def _document(self) -> Page:
        body = document(self._gateway)
        return Page(200, b"text/html; charset=utf-8", body, HEADERS)

    def _metrics(self) -> Page:
        body = exposition.generate_latest(self._gateway.metrics.registry)
        return Page(200, exposition.CONTENT_TYPE_LATEST.encode(), body)

    def _ready(self) -> Page:
        why = "shutting down" if self._gateway.draining else self._not_ready()
        why = why or self._gateway.guard.locked
        return Page(503, _TEXT, why.encode() + b"\n") if why else Page(200, _TEXT, b"ok\n")

    def _state(self) -> Page:
        return Page(200, b"application/json", msgspec.json.encode(self._gateway.report()))


class AdminConnection(asyncio.Protocol):
    """A kept-alive connection for GET without a body."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._received = 0

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Parse; a request that is too long or malformed ends the connection."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.abort()
            return
        if self._received > MAX_HEAD_BYTES:
            self._transport.abort()

    def on_message_begin(self) -> None:
        """Parser callback."""
        self._target = b""

    def on_url(self, url: bytes) -> None:
        """Parser callback."""
        self._target += url

    def on_message_complete(self) -> None:
        """Parser callback: answer."""
        self._received = 0
        keep = self._parser.should_keep_alive()
        page = self._admin.page(self._parser.get_method(), self._target.partition(b"?")[0])
        headers = {
            b"content-type": page.content_type,
            b"content-length": b"%d" % len(page.body),
            b"connection": b"keep-alive" if keep else b"close",
            **page.headers,
        }
        self._transport.write(response_head(page.status, headers) + page.body)
        if not keep:
            self._transport.close()
