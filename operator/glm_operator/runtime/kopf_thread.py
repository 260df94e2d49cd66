"""kopf in a thread and a loop of its own.

kopf cancels every task of its loop when it ends, and its failures end it: apart, neither reaches
the reconcile passes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import kopf
from typing_extensions import override

from glm_operator.api import names
from glm_operator.kube.transport import Connection

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
FIRST_PAUSES = (1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0)
LONGEST_PAUSE = 20.0
START_SECONDS = 5.0
"""kopf is at work after this; its tasks are made at once."""
ORCHESTRATOR = "multidimensional multitasker"
"""kopf's name for the task under which its watches run, and which ends with the first of them."""
OTHERS_HAVE_MANY = ("pods", "jobs", "persistentvolumeclaims")
"""Kinds of which a cluster may have tens of thousands: the API server sends us ours only."""
IDENTITY: Any = names.MANAGER
"""kopf's name for itself among its peers, which are never used."""

Enqueue = Callable[[tuple[str, str]], None]
"""Asks for the passes that what was seen calls for; may be called from any thread."""
Register = Callable[[kopf.OperatorRegistry, Enqueue], None]
"""Adds the event handlers to a registry."""


def kopf_settings() -> kopf.OperatorSettings:
    """List, watch and nothing else: no events, no peering, no writes to any object."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{names.GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=names.GROUP)
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    settings.watching.chunk_size = 500
    for plural in OTHERS_HAVE_MANY:
        settings.watching.label_selectors[plural] = f"app.kubernetes.io/managed-by={names.MANAGER}"
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Patience()
    settings.process.ultimate_exiting_timeout = None
    return settings


class Patience(Iterable[float]):
    """Seconds between attempts at a request that fails, without end.

    kopf gives up after nine and ends the operator with it: a watched namespace that was deleted
    refuses to be watched for ever, and would end every other one's operator each minute. Whether
    the API server answers at all is judged by the inventory's watches.
    """

    @override
    def __iter__(self) -> Iterator[float]:
        yield from FIRST_PAUSES
        while True:
            yield LONGEST_PAUSE


class KopfThread:
    """Runs kopf until stopped.

    Args:
        register: adds the event handlers.
        enqueue: given to the handlers.
        connection: reads the credentials in use; called again when they expire.
        namespaces: namespaces to watch; empty: all.
    """

    def __init__(
        self,
        register: Register,
        enqueue: Enqueue,
        connection: Callable[[], Connection],
        namespaces: tuple[str, ...],
    ) -> None:
        self._registry = kopf.OperatorRegistry()
        register(self._registry, enqueue)
        kopf.on.login(registry=self._registry)(_login(connection))
        self._namespaces = namespaces
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def ended(self) -> None:
        """Wait for kopf to end; raises what ended it."""
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Ask kopf to end and wait a while; the process ends without it otherwise."""
        self._stop.set()
        await asyncio.wait([self._ended], timeout=STOP_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._operate())
        except Exception as error:  # noqa: BLE001 - handed to the loop that waits for it
            self._loop.call_soon_threadsafe(self._tell, error)
        else:
            self._loop.call_soon_threadsafe(self._tell, None)

    def _tell(self, error: Exception | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    async def _operate(self) -> None:
        # Made first: kopf cancels every task that is younger than itself.
        guard = asyncio.create_task(self._guard(), name="guard of kopf")
        try:
            await self._run_kopf()
        finally:
            guard.cancel()

    async def _guard(self) -> None:
        """Tell when kopf watches no more.

        A watch that fails for good ends kopf, which then waits for ever for its other watches:
        they wait for credentials that nobody brings any more.
        """
        await asyncio.sleep(START_SECONDS)
        at_work = [task for task in asyncio.all_tasks() if task.get_name() == ORCHESTRATOR]
        if at_work:
            await asyncio.wait(at_work)
        if not self._stop.is_set():
            error = RuntimeError("a watch of kopf ended, and with it all others; its log says why")
            self._loop.call_soon_threadsafe(self._tell, error)

    async def _run_kopf(self) -> None:
        await kopf.operator(
            registry=self._registry,
            settings=kopf_settings(),
            # kopf would ask for the user's name, which a container's numeric user does not have.
            identity=IDENTITY,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=self._stop,
        )


def _login(connection: Callable[[], Connection]) -> Callable[..., kopf.ConnectionInfo]:
    def login(**_: object) -> kopf.ConnectionInfo:
        used = connection()
        return kopf.ConnectionInfo(
            server=used.server,
            ca_path=used.ca_path,
            insecure=not used.verify,
            certificate_path=used.certificate_path,
            private_key_path=used.key_path,
            scheme="Bearer" if used.token else None,
            token=used.token,
        )

    return login
