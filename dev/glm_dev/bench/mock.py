"""An engine that costs next to nothing: prepared bytes, at a pace that the request names."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import uvloop

_EVENT = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",' + (
    b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT)
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ANSWER = b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{' + (
    b'"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":'
    b'{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}}'
)
UNARY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_ANSWER),
    _ANSWER,
)
SERVED = (b"/v1/chat/completions", b"/health")
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
LIMIT = 2**26
BACKLOG = 2048


@contextmanager
def engine() -> Iterator[int]:
    """Run the mock in a process of its own; gives its port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(theirs,), daemon=True)
    process.start()
    try:
        yield int(ours.recv())
    finally:
        process.terminate()
        process.join(5)


def _run(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, limit=LIMIT, backlog=BACKLOG)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            path, body = await _request(reader)
            if path not in SERVED:
                writer.write(NOT_FOUND)
            elif len(body) < 4096 and b'"mock"' in body:
                await _stream(writer, **json.loads(body)["mock"])
            else:
                writer.write(UNARY)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Path and body of a request; a question after the engine's health has no body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return head.split(b" ", 2)[1], await reader.readexactly(int(length or 0))


async def _stream(writer: asyncio.StreamWriter, chunks: int, pause: float | None) -> None:
    """Without a pause all chunks are one write: they arrive in a few large segments."""
    if pause is None:
        writer.write(STREAM_HEAD + CHUNK * chunks + LAST)
        return
    writer.write(STREAM_HEAD)
    for _ in range(chunks):
        writer.write(CHUNK)
        await asyncio.sleep(pause)
    writer.write(LAST)
