"""The loads that the proxies are measured with, and the clients that make them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from glm_dev.bench.proxies import KEY, BenchError

MEGABYTE = 1_000_000
WORDS = "How do I drain a node?"
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\ncontent-type: application/json\r\n"
    b"authorization: Bearer %s\r\n" % KEY.encode()
)


@dataclass(frozen=True, slots=True)
class Case:
    """One load. Its result is counted in `units`: CPU microseconds of the proxy for each."""

    name: str
    unit: str
    body: bytes
    clients: int
    requests: int
    """Of each client, one after another on one connection."""
    units_per_request: int = 1
    bar: float | None = None
    """At most this many times the CPU time of vllm-router."""
    memory: str = ""
    """The name of its peak of memory in the second table, where it has one."""

    @property
    def units(self) -> int:
        """How much of its unit the whole load is."""
        return self.clients * self.requests * self.units_per_request


def cases() -> list[Case]:
    """The loads, sized to a few seconds each; 1,000 streams last ten."""
    return [
        Case("streamed chunk, 50 streams at 20 ms", "chunk", stream(200, 0.02), 50, 1, 200, 1.0),
        Case("burst of 200 chunks", "stream", stream(200, 0), 16, 20, bar=0.25),
        Case("200 chunks in one write of the engine", "stream", stream(200, None), 16, 20),
        Case("small unary request", "request", _body(), 16, 250, bar=2.5),
        Case("1 MB image request", "request", image(1), 2, 100, bar=0.6),
        Case("5 MB image request", "request", image(5), 2, 20),
        Case("20 MB image request", "request", image(20), 2, 5, memory="2 bodies of 20 MB"),
        Case(
            "streamed chunk, 1,000 streams at 0.5 s",
            "chunk",
            stream(20, 0.5),
            1000,
            1,
            20,
            memory="1,000 streams",
        ),
    ]


def warm_up() -> Case:
    """What is sent before anything is measured."""
    return Case("warm-up", "request", _body(), 4, 20)


def stream(chunks: int, pause: float | None) -> bytes:
    """A request that is answered with so many chunks, `pause` seconds apart; None: in one write."""
    return _body(stream=True, mock={"chunks": chunks, "pause": pause})


def image(megabytes: int) -> bytes:
    """A request with one image of this size, as it is in the body."""
    url = "data:image/png;base64," + "A" * (megabytes * MEGABYTE)
    content = [{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": url}}]
    return _body(messages=[{"role": "user", "content": content}])


def _body(**fields: Any) -> bytes:
    fields.setdefault("messages", [{"role": "user", "content": WORDS}])
    return json.dumps({"model": "glm", "max_tokens": 64, **fields}).encode()


async def run(case: Case, port: int) -> None:
    """A closed loop of the case's clients.

    Raises:
        BenchError: a request was not answered with 200.
    """
    data = _HEAD + b"content-length: %d\r\n\r\n%s" % (len(case.body), case.body)
    await asyncio.gather(*(_client(port, data, case.requests) for _ in range(case.clients)))


async def _client(port: int, data: bytes, requests: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        for _ in range(requests):
            writer.write(data)
            await _whole_answer(reader)
    finally:
        writer.close()
        await writer.wait_closed()


async def _whole_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise BenchError(f"a request failed: {head!r}")
    if b"transfer-encoding" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
