"""/healthz, /readyz and /metrics of the operator."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from glm_operator.runtime.metrics import Metrics

QUEUE_LIMIT_SECONDS = 300.0
"""An object that waits longer for its pass means that no pass ends any more."""
WATCH_LIMIT_SECONDS = 300.0
"""Bookmarks come about once a minute and a silent stream is opened again after 90 s.

It holds for the first list too: an operator that never gets one decides nothing.
"""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What health is judged by, at one moment."""

    leading: bool
    synced: bool
    queue_age: float
    inventory_age: float


def health_problem(vitals: Vitals) -> str:
    """Why the process should be restarted, or an empty string."""
    if not vitals.leading:
        # Waiting for the Lease is no illness.
        return ""
    if vitals.queue_age > QUEUE_LIMIT_SECONDS:
        return f"an object has waited {vitals.queue_age:.0f} s for its pass"
    if vitals.inventory_age > WATCH_LIMIT_SECONDS:
        return f"nothing was heard of nodes and pods for {vitals.inventory_age:.0f} s"
    return ""


def readiness_problem(vitals: Vitals) -> str:
    """Why the operator does not act at present, or an empty string."""
    if not vitals.leading:
        return "another operator holds the Lease"
    if not vitals.synced:
        return "nodes, pods and PriorityClasses are not listed yet"
    return health_problem(vitals)


class HealthServer:
    """The two ports. That it answers at all shows that the event loop turns.

    Args:
        vitals: reads what health is judged by.
        metrics: what is measured.
        refresh: called before every scrape.
    """

    def __init__(
        self, vitals: Callable[[], Vitals], metrics: Metrics, refresh: Callable[[], None]
    ) -> None:
        self._vitals = vitals
        self._metrics = metrics
        self._refresh = refresh
        self._runners: list[web.AppRunner] = []

    async def start(self, health_port: int, metrics_port: int) -> tuple[int, int]:
        """Listen on all addresses; port 0 takes any. Returns the ports in use."""
        health = web.Application()
        health.router.add_get("/healthz", self._healthz)
        health.router.add_get("/readyz", self._readyz)
        metrics = web.Application()
        metrics.router.add_get("/metrics", self._scrape)
        return await self._listen(health, health_port), await self._listen(metrics, metrics_port)

    async def close(self) -> None:
        """Stop listening."""
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, app: web.Application, port: int) -> int:
        runner = web.AppRunner(app, access_log=None)
        self._runners.append(runner)
        await runner.setup()
        listener = _listener(port)
        await web.SockSite(runner, listener).start()
        return int(listener.getsockname()[1])

    async def _healthz(self, request: web.Request) -> web.Response:
        return _answer(health_problem(self._vitals()))

    async def _readyz(self, request: web.Request) -> web.Response:
        return _answer(readiness_problem(self._vitals()))

    async def _scrape(self, request: web.Request) -> web.Response:
        self._refresh()
        body = generate_latest(self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _listener(port: int) -> socket.socket:
    """One socket for both versions of IP, where the machine has both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _answer(problem: str) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
