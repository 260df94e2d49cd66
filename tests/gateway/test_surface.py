"""Which paths and methods are answered, and how the end of a stream is judged."""

from __future__ import annotations

import json

import pytest

from gateway_fakes import Answer, Call, Running, chat, engines, events, run, running


async def ask(gateway: Running, method: str, path: str) -> Answer:
    """One request without a body; the answer to HEAD is read without one."""
    client = await gateway.client()
    await client.send(f"{method} {path} HTTP/1.1\r\nhost: g\r\n\r\n".encode())
    return await (client.head() if method == "HEAD" else client.answer())


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/completions?a=b", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/glm", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(method: str, path: str, allow: str) -> None:
    async def scenario() -> None:
        async with running() as gateway:
            got = await ask(gateway, method, path)
            assert (got.status, got.headers["allow"]) == (405, allow)

    run(scenario())


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/glm", "/v1/models/none", "/nothing"])
def test_head_is_get_without_its_body(path: str) -> None:
    async def scenario() -> None:
        async with running() as gateway:
            client = await gateway.client()
            answers = []
            # On one connection: a body after HEAD would be taken for the next answer.
            for method in ("HEAD", "GET"):
                await client.send(f"{method} {path} HTTP/1.1\r\nhost: g\r\n\r\n".encode())
                answers.append(await (client.head() if method == "HEAD" else client.answer()))
                if answers[-1].headers.get("connection") == "close":
                    assert await client.reader.read() == b""
                    client = await gateway.client()
            head, get = answers
            for answer in answers:
                del answer.headers["x-request-id"]
            assert (head.status, head.headers) == (get.status, get.headers)

    run(scenario())


def test_a_stream_without_its_last_event_is_not_passed_off_as_complete() -> None:
    sent = events(2)[:3]

    async def stops(call: Call) -> None:
        await call.stream_head()
        await call.chunk(b"".join(sent))
        await call.end()

    async def scenario() -> None:
        async with engines(stops) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(stream=True))
            assert not got.complete
            assert got.body.startswith(b"".join(sent) + b"data: ")
            error = json.loads(got.body.rpartition(b"data: ")[2])["error"]
            assert error["code"] == gateway.log()[-1]["error"] == "StreamBroken"
            assert gateway.log()[-1]["tokenSource"] == "estimated"

    run(scenario())
