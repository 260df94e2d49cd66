"""What the gateway's tests talk to: scripted engines, raw clients, a gateway in process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvloop

from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.admin import Admin
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.config import Config, Endpoint, TierConfig, parse
from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.limits import Timings

T = TypeVar("T")
DATA = Path(__file__).resolve().parents[1] / "data"
FAST = Timings(back_off=0.01, max_back_off=0.05, sweep=0.02, linger=0.2)
PNG_640x480 = (
    "data:image/png;base64,"
    + base64.b64encode(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
        + (640).to_bytes(4, "big")
        + (480).to_bytes(4, "big")
        + b"\x08" * 8
    ).decode()
)
"""The head of a picture is all that the gateway looks at; 391 tokens."""
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "served",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 7, "total_tokens": 10, "completion_tokens": 3},
}


def run(scenario: Coroutine[Any, Any, T], seconds: float = 20) -> T:
    """Run a scenario on uvloop within a time limit."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await scenario

    return uvloop.run(limited())


async def eventually(condition: Callable[[], object], what: str, seconds: float = 5) -> None:
    """Wait until a condition holds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.005)


@dataclass
class Received:
    """A request that reached an engine."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Call:
    """The engine's side of one request."""

    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The gateway closed the connection while the request ran."""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def json(self, status: int, value: object, extra: str = "") -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}"
        await self.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    async def stream_head(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def events(self, count: int, usage: bool = True) -> bytes:
        """A whole stream; returns its bytes."""
        await self.stream_head()
        sent = b""
        for event in events(count, usage):
            await self.chunk(event)
            sent += event
        await self.end()
        return sent


def events(count: int, usage: bool = True) -> list[bytes]:
    """The events of a stream as vLLM writes them."""
    values: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    ]
    values += [{"choices": [{"index": 0, "delta": {"content": f"w{i} "}}]} for i in range(count)]
    values.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        numbers = {"prompt_tokens": 5, "total_tokens": 5 + count, "completion_tokens": count}
        values.append({"choices": [], "usage": numbers})
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [b"data: " + json.dumps(base | v).encode() + b"\n\n" for v in values] + [
        b"data: [DONE]\n\n"
    ]


Script = Callable[[Call], Awaitable[None]]


async def answer(call: Call) -> None:
    """Answer like an engine: streamed when asked so."""
    if json.loads(call.request.body).get("stream"):
        await call.events(3)
    else:
        await call.json(200, ANSWER)


class Engine:
    """A fake engine. `script` answers each request; the connection is kept alive."""

    def __init__(self, script: Script = answer) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.connections = 0
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> Engine:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def stop(self) -> None:
        """Die: refuse connections and reset those that stand."""
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    def close_idle(self) -> None:
        """Close every connection as uvicorn does after its keep-alive time."""
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                request = await _read_request(reader)
                call = Call(request, reader, writer)
                self.calls.append(call)
                watch = asyncio.create_task(_watch(call))
                await self.script(call)
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
                if call.gone.is_set():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def _watch(call: Call) -> None:
    """Notice that the gateway hangs up while its request runs."""
    with contextlib.suppress(ConnectionError):
        data = await call.reader.read(1)
        assert data == b"", "the gateway sent bytes while its request was running"
    call.gone.set()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip().split("\r\n")
    headers = dict(item.split(": ", 1) for item in rest)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(line.split(" ")[1], headers, body)


@dataclass
class Answer:
    """What a raw client got."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool = True

    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.body)["error"])


class Client:
    """A raw HTTP/1.1 client on one connection: it hides nothing of what the gateway does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**26))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self, body: bytes, path: str = "/v1/chat/completions", **headers: str
    ) -> None:
        await self.send(request_bytes(body, path, **headers))

    async def head(self) -> Answer:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *rest = text.rstrip().split("\r\n")
        headers = {k.lower(): v for k, v in (item.split(": ", 1) for item in rest)}
        return Answer(int(line.split(" ")[1]), headers, b"")

    async def chunk(self) -> bytes | None:
        """The next chunk; None after the last one."""
        size = int((await self.reader.readuntil(b"\r\n")).strip(), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2] if size else None

    async def answer(self) -> Answer:
        """A whole answer; `complete` is False when the connection ended inside it."""
        answer = await self.head()
        try:
            if answer.headers.get("transfer-encoding") == "chunked":
                while (chunk := await self.chunk()) is not None:
                    answer.body += chunk
            elif "content-length" in answer.headers:
                length = int(answer.headers["content-length"])
                answer.body = await self.reader.readexactly(length)
            else:
                answer.body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            answer.complete = False
        return answer

    def abort(self) -> None:
        self.writer.transport.abort()

    async def ended(self) -> bool:
        """Whether the gateway closed the connection, waiting for it."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read() == b""
        return True


def request_bytes(body: bytes, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """A POST with a length."""
    all_headers = {"host": "gateway", "content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    all_headers.setdefault("content-length", str(len(body)))
    lines = [f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in all_headers.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def chat(text: str = "hello", model: str = "glm", **fields: Any) -> bytes:
    """A chat completion's body."""
    fields.setdefault("messages", [{"role": "user", "content": text}])
    return json.dumps({"model": model, **fields}).encode()


def config(tiers: Sequence[str] = ("flagship", "flash"), **changes: Any) -> Config:
    """The shared example configuration with some of its tiers and with changes."""
    example = parse((DATA / "gateway-config.json").read_bytes())
    present = {name: example.tiers[name] for name in tiers}
    return msgspec.structs.replace(example, tiers=present, **changes)


def with_limits(base: Config, hold_timeout_seconds: float = 300, **limits: Any) -> Config:
    """A configuration with these limits, and this time to wait in every tier."""
    tiers = {
        name: msgspec.structs.replace(tier, hold_timeout_seconds=hold_timeout_seconds)
        for name, tier in base.tiers.items()
    }
    return msgspec.structs.replace(
        base, tiers=tiers, limits=msgspec.structs.replace(base.limits, **limits)
    )


def with_endpoints(base: Config, **urls: list[str]) -> Config:
    """Static endpoints: tier -> URLs, named `<tier>-<n>`."""
    tiers: dict[str, TierConfig] = {}
    for name, tier in base.tiers.items():
        endpoints = tuple(Endpoint(f"{name}-{n}", url) for n, url in enumerate(urls.get(name, [])))
        tiers[name] = msgspec.structs.replace(tier, endpoints=endpoints)
    return msgspec.structs.replace(base, tiers=tiers)


@dataclass
class Running:
    """A gateway in this process on real sockets."""

    gateway: Gateway
    port: int
    admin: Admin
    lines: list[dict[str, Any]]
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        """A new connection, closed when the gateway's block ends."""
        client = await Client.open(self.port)
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """Close the clients and wait until the gateway has noticed."""
        for client in self.clients:
            client.abort()
        await eventually(lambda: self.gateway.connections == 0, "every connection is closed")

    async def ask(self, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Answer:
        """One request on a connection of its own."""
        client = await self.client()
        await client.request(body, path, **headers)
        return await client.answer()

    def endpoints(self, **urls: list[str]) -> None:
        """Change the static endpoints."""
        self.gateway.apply(with_endpoints(self.gateway.config, **urls))

    def log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        self.gateway.access_log.flush()
        return self.lines

    def metric(self, name: str, **labels: str) -> float:
        """A sample's value, 0 when it is not there."""
        return self.gateway.metrics.registry.get_sample_value(name, labels) or 0.0

    async def at_rest(self) -> None:
        """Wait until nothing runs, then check that every count is back at zero."""
        await eventually(lambda: self.gateway.running == 0, "no request runs")
        assert self.metric("glm_gateway_body_bytes") == 0
        for tier in self.gateway.report().tiers.values():
            assert (tier.in_flight, tier.held) == (0, 0)


@contextlib.asynccontextmanager
async def running(
    config_: Config | None = None, timings: Timings = FAST, **urls: list[str]
) -> AsyncIterator[Running]:
    """A gateway with static endpoints, checked to be at rest at the end."""
    loop = asyncio.get_running_loop()
    lines: list[dict[str, Any]] = []

    def write(data: bytes) -> None:
        lines.extend(json.loads(line) for line in data.splitlines())

    gateway = Gateway(
        with_endpoints(config_ or config(), **urls),
        timings=timings,
        access_log=AccessLog(write),
        pod="gateway-test",
        random=lambda: 0.5,
    )
    listener = await loop.create_server(lambda: ClientConnection(gateway), "127.0.0.1", 0)
    sweeping = asyncio.create_task(_sweep(gateway))
    port = listener.sockets[0].getsockname()[1]
    one = Running(gateway, port, Admin(gateway, lambda: ""), lines)
    try:
        yield one
        await one.at_rest()
    finally:
        listener.close()
        await one.close()
        sweeping.cancel()
        gateway.abandon()


async def _sweep(gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(gateway.timings.sweep)
        gateway.sweep()


@contextlib.asynccontextmanager
async def engines(*scripts: Script) -> AsyncIterator[list[Engine]]:
    """Engines with these scripts, stopped at the end."""
    started = [await Engine(script).start() for script in scripts]
    try:
        yield started
    finally:
        for engine in started:
            await engine.stop()


def shorter(timings: Timings = FAST, **changes: float) -> Timings:
    """Timings with changes."""
    return replace(timings, **changes)
