"""Answers of pods, over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from glm_operator.runtime.http import ANSWER_LIMIT, NoAnswerError, PodHttp, decoded


def ask(body: bytes) -> tuple[int, Any]:
    """What `PodHttp` makes of a pod that answers with these bytes."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async def main() -> tuple[int, Any]:
        app = web.Application()
        app.router.add_get("/state", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        http = PodHttp()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            return await http.get(f"http://127.0.0.1:{port}/state", 10.0)
        finally:
            await http.close()
            await runner.cleanup()

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
