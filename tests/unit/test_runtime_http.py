"""Answers of pods, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from glm_operator.runtime.http import ANSWER_LIMIT, NoAnswerError, PodHttp, decoded

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def pod(handler: Handler) -> AsyncIterator[str]:
    """A pod that answers every GET like this; gives its address."""
    app = web.Application()
    app.router.add_get("/{path}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client() -> AsyncIterator[PodHttp]:
    http = PodHttp()
    try:
        yield http
    finally:
        await http.close()


def ask(body: bytes) -> tuple[int, Any]:
    """What `PodHttp` makes of a pod that answers with these bytes."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async def main() -> tuple[int, Any]:
        async with pod(answer) as address, client() as http:
            return await http.get(f"{address}/state", 10.0)

    return asyncio.run(main())


def test_an_answer_of_many_segments_is_read_to_its_end() -> None:
    # More than the event loop reads from a socket at once, so no single read can return it.
    text = "y" * (2 << 20)
    assert ask(f'{{"x": "{text}"}}'.encode()) == (200, {"x": text})


def test_an_answer_without_end_is_no_answer() -> None:
    with pytest.raises(NoAnswerError, match="more than 4194304 bytes"):
        ask(b" " * (ANSWER_LIMIT + 1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b"", ""),
        (b"busy", "busy"),
        (b"\xff", "\ufffd"),
        (b"[" * 200_000, "[" * 200_000),
    ],
    ids=["JSON", "nothing", "text", "no UTF-8", "too deep"],
)
def test_what_is_no_json_is_text(raw: bytes, expected: Any) -> None:
    assert decoded(raw) == expected


def test_pods_that_do_not_answer_take_no_connection_from_those_that_do() -> None:
    silent = 150
    arrived: list[str] = []
    all_arrived, release = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/silent":
            arrived.append(request.path)
            if len(arrived) == silent:
                all_arrived.set()
            await release.wait()
        return web.Response(text="1")

    async def main() -> tuple[int, Any]:
        async with pod(answer) as address, client() as http, asyncio.TaskGroup() as asked:
            for _ in range(silent):
                asked.create_task(http.get(f"{address}/silent", 20.0))
            try:
                async with asyncio.timeout(10):
                    await all_arrived.wait()
                return await http.get(f"{address}/state", 10.0)
            finally:
                release.set()

    assert asyncio.run(main()) == (200, 1)
