"""The life of the process: start-up, listening, draining, exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from glm_dev.simulator.api import Api
from glm_dev.simulator.httpd import Connection
from glm_dev.simulator.settings import Behaviour, Settings, SettingsError, parse

BACKLOG = 2048
log = logging.getLogger("simulator")


@dataclass(frozen=True, slots=True)
class Simulator:
    """A simulated engine that accepts connections."""

    api: Api
    url: str


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run the simulator as vLLM's API server is run; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    variables = os.environ if environment is None else environment
    try:
        settings = parse(sys.argv[1:] if argv is None else argv, variables)
        behaviour = Behaviour.from_environment(variables)
        return asyncio.run(_serve(settings, behaviour))
    except (SettingsError, OSError) as error:
        log.error("%s", error)
        return 1


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    behaviour: Behaviour,
    listener: socket.socket | None = None,
    exit_process: Callable[[int], None] = os._exit,
) -> AsyncIterator[Simulator]:
    """Accept connections inside this process until the block ends; port 0 takes a free one."""
    api = Api(settings, behaviour, exit_process)
    taken = listener or bound(settings)
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(api.handle, connections), sock=taken, backlog=BACKLOG
    )
    host, port = taken.getsockname()[:2]
    reachable = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    try:
        yield Simulator(api, f"http://{reachable}:{port}")
    finally:
        server.close()
        for connection in tuple(connections):
            connection.close()
        await server.wait_closed()


def bound(settings: Settings) -> socket.socket:
    """The port, taken but not listening: connections are refused, as while vLLM starts."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((settings.host, settings.port))
    return listener


async def _serve(settings: Settings, behaviour: Behaviour) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = bound(settings)
    if behaviour.startup_seconds:
        log.info("port %d refuses connections for %g s", settings.port, behaviour.startup_seconds)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), behaviour.startup_seconds)
    if stop.is_set():
        log.error("KeyboardInterrupt: terminated before the engine was ready")
        return 1
    async with running(settings, behaviour, listener) as simulator:
        log.info("simulating %s as %s at %s", settings.model, settings.name, simulator.url)
        if settings.kept:
            log.info("accepted without effect: %s", " ".join(settings.kept))
        await stop.wait()
        log.info("shutting down; requests may take %d s more", settings.shutdown_timeout)
        await simulator.api.engine.drain(settings.shutdown_timeout)
    return 0
