"""The process: both ports, the source of the configuration, signals and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.admin import Admin, AdminConnection
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.config import Config
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.filesource import FileSource
from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.keys import Entries
from glm_serving.gateway.keysfile import KeysFile
from glm_serving.gateway.limits import Timings

log = logging.getLogger("glm_gateway")

BACKLOG = 2048


@dataclass(frozen=True, slots=True)
class Options:
    """How the process listens and ends."""

    host: str = "0.0.0.0"
    port: int = 8080
    admin_port: int = 9090
    shutdown_delay: float = 3.0
    """Seconds for which a stopping gateway still accepts, until all know that it is going."""
    shutdown_timeout: float = 300.0
    """Seconds for which requests may finish, and held ones wait, after that."""


class Source(Protocol):
    """Where the configuration comes from."""

    async def first(self) -> Config:
        """The first configuration; waits until there is one."""

    async def follow(self, gateway: Gateway) -> None:
        """Apply every later one, for ever."""

    def not_ready(self) -> str:
        """Why requests should go elsewhere for now, or nothing."""


class StaticSource:
    """A file with static endpoints, and the keys file that it names."""

    def __init__(self, file: FileSource, poll_seconds: float = 1.0) -> None:
        self._file = file
        self._keys = KeysFile(file.path.parent)
        self._poll_seconds = poll_seconds
        self._first_keys: Entries | None = None

    async def first(self) -> Config:
        """Read the files; a bad one ends the process."""
        config = self._file.read()
        self._first_keys = self._keys.first(config.auth)
        return config

    async def follow(self, gateway: Gateway) -> None:
        """Read them again when they change."""

        def refused(error: ConfigError) -> None:
            log.error("the changed configuration is not used: %s", error)
            gateway.metrics.config_errors.add()

        def look_at_keys() -> None:
            try:
                gateway.take_keys(self._keys.changed(gateway.config.auth))
            except ConfigError as error:
                gateway.metrics.config_errors.add()
                gateway.keys_not_read(str(error))

        def apply(config: Config) -> None:
            gateway.apply(config)
            look_at_keys()

        async def follow_keys() -> None:
            while True:
                await asyncio.sleep(self._poll_seconds)
                look_at_keys()

        gateway.take_keys(self._first_keys)
        file = self._file.follow(apply, refused, self._poll_seconds)
        await asyncio.gather(file, follow_keys())

    def not_ready(self) -> str:
        """Static endpoints are known at once."""
        return ""


class Server:
    """Both listeners of one gateway."""

    def __init__(
        self,
        source: Source,
        options: Options,
        timings: Timings | None = None,
        access_log: AccessLog | None = None,
    ) -> None:
        self._source = source
        self._options = options
        self._timings = timings or Timings()
        self._access_log = access_log
        self.gateway: Gateway
        self.port = 0
        self.admin_port = 0

    async def start(self) -> None:
        """Read the configuration and listen. Port 0 takes a free one.

        Raises:
            ConfigError: the configuration cannot be used.
            OSError: a port is taken.
        """
        loop = asyncio.get_running_loop()
        config = await self._source.first()
        self.gateway = Gateway(config, timings=self._timings, access_log=self._access_log)
        admin = Admin(self.gateway, self._source.not_ready)
        host, port, admin_port = self._options.host, self._options.port, self._options.admin_port
        self._listener = await loop.create_server(
            lambda: ClientConnection(self.gateway), host, port, backlog=BACKLOG
        )
        self._admin_listener = await loop.create_server(
            lambda: AdminConnection(admin), host, admin_port
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        self.admin_port = self._admin_listener.sockets[0].getsockname()[1]
        self._work = asyncio.gather(self._source.follow(self.gateway), self._sweep())
        log.info("listening on %d, metrics and state on %d", self.port, self.admin_port)

    async def work(self) -> None:
        """Follow the configuration and enforce time limits, for ever."""
        await asyncio.shield(self._work)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._timings.sweep)
            self.gateway.sweep()

    async def stop(self) -> None:
        """End in order: not ready, no new connections, let requests finish, answer the rest."""
        gateway, options = self.gateway, self._options
        gateway.draining = True
        log.info("stopping: %d requests run or wait", gateway.running)
        await asyncio.sleep(options.shutdown_delay)
        self._listener.close()
        gateway.close_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(options.shutdown_timeout):
                await gateway.until(lambda: not gateway.busy)
        gateway.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.linger):
                await gateway.until(lambda: gateway.connections == 0)
        self._work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._work
        self._admin_listener.close()
        gateway.access_log.flush()


async def serve(make_source: Callable[[], Source], options: Options) -> None:
    """Run until SIGTERM or SIGINT, then end in order; a second signal ends at once.

    Raises:
        ConfigError: the first configuration cannot be used.
        OSError: a port is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(make_source(), options)
    if not await _unless(stop, server.start()):
        return
    gc.collect()
    gc.freeze()
    if await _unless(stop, server.work()):
        return
    stop.clear()
    await _unless(stop, server.stop())


async def _unless(stop: asyncio.Event, work: Awaitable[object]) -> bool:
    """Do work, or leave it when a signal comes first; whether it was done."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
        await asyncio.wait({working})
        return False
    working.result()
    return True
