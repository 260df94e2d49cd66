"""kopf as the operator sets it up. What it does with a cluster is seen on a real one."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sized
from itertools import islice

import pytest
from kopf._core.reactor import running

from glm_operator.kube.transport import Connection
from glm_operator.runtime import kopf_thread
from glm_operator.runtime.kopf_thread import (
    LONGEST_PAUSE,
    ORCHESTRATOR,
    KopfThread,
    kopf_settings,
)


def test_a_watch_that_is_refused_is_tried_for_ever() -> None:
    # Of a collection with a length kopf makes one attempt more than it has items, and then ends.
    pauses = kopf_settings().networking.error_backoffs
    assert not isinstance(pauses, Sized | float)
    for _ in range(2):
        first = list(islice(pauses, 100))
        assert first[:2] == [1.0, 1.0]
        assert max(first) == first[-1] == LONGEST_PAUSE


def connection() -> Connection:
    raise AssertionError("nobody logs in here")


def kopf_that(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Awaitable[None]]) -> KopfThread:
    """A thread whose kopf is a function; call it inside a loop."""
    monkeypatch.setattr(kopf_thread, "START_SECONDS", 0.0)
    monkeypatch.setattr(KopfThread, "_run_kopf", lambda self: run())
    return KopfThread(lambda registry, enqueue: None, lambda key: None, connection, ())


def test_a_kopf_that_only_waits_for_its_other_watches_is_told_as_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        watches = asyncio.create_task(asyncio.sleep(0), name=ORCHESTRATOR)
        await watches
        await asyncio.Event().wait()

    async def scene() -> None:
        thread = kopf_that(monkeypatch, run)
        thread.start()
        with pytest.raises(RuntimeError, match="a watch of kopf ended"):
            await asyncio.wait_for(thread.ended(), 10)

    asyncio.run(scene())


def test_a_kopf_at_work_is_left_alone_and_ends_when_it_is_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    working, stopped = threading.Event(), threading.Event()

    async def run() -> None:
        watches = asyncio.create_task(asyncio.Event().wait(), name=ORCHESTRATOR)
        working.set()
        await asyncio.to_thread(stopped.wait)
        watches.cancel()

    async def scene() -> None:
        thread = kopf_that(monkeypatch, run)
        thread.start()
        await asyncio.to_thread(working.wait)
        assert not thread._ended.done()
        stopping = asyncio.create_task(thread.stop())
        await asyncio.to_thread(thread._stop.wait)
        stopped.set()
        await asyncio.wait_for(stopping, 10)
        await asyncio.wait_for(thread.ended(), 10)

    asyncio.run(scene())


def test_kopf_still_runs_its_watches_under_the_name_that_the_guard_looks_for() -> None:
    assert f'"{ORCHESTRATOR}"' in inspect.getsource(running)
