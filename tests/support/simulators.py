"""Simulated engines for tests: each in a thread of its own, reached over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glm_dev.simulator.server import running
from glm_dev.simulator.settings import Behaviour, parse

FLAGS = (
    *("--model", "/models/flagship", "--served-model-name", "glm-4.6v", "--host", "127.0.0.1"),
    *("--port", "0", "--tool-call-parser", "glm45", "--reasoning-parser", "glm45"),
    "--enable-auto-tool-choice",
)
JSON = {"content-type": "application/json"}
POST = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json"
"""The start of a request that a test writes to a socket by itself."""
ANSWER_SECONDS = 60
"""The real engine's first answer on two busy cores took more than 20 s."""
QUICK = {"first_token_ms": 0, "inter_token_ms": 0}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: int
    text: str

    @property
    def value(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)

    def events(self) -> list[Any]:
        """The JSON values of a stream; it must have ended with [DONE]."""
        lines = [line.removeprefix("data: ") for line in self.text.split("\n\n") if line]
        assert lines[-1] == "[DONE]", lines
        return [json.loads(line) for line in lines[:-1]]


def send(
    url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """GET, or POST where there is a body; an error status is a reply like any other."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {**JSON, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            return Reply(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read().decode())


def start_stream(url: str, body: Mapping[str, Any]) -> socket.socket:
    """Start a streamed chat completion and return once its first bytes are here."""
    host, port = url.removeprefix("http://").split(":")
    text = json.dumps({**body, "stream": True})
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"{POST}\r\nconnection: close\r\ncontent-length: {len(text)}"
    connection.sendall(f"{head}\r\n\r\n{text}".encode())
    connection.recv(1, socket.MSG_PEEK)
    return connection


def finish_reasons(connection: socket.socket) -> list[Any]:
    """Read a chat stream to its end; the finish reason of each event, None until the last."""
    with connection, connection.makefile("rb") as lines:
        events = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    return [event["choices"][0]["finish_reason"] for event in events]


@dataclass(frozen=True, slots=True)
class Engine:
    """A simulated engine that runs."""

    url: str
    exits: list[int]
    """Codes the process would have ended with."""

    def get(self, path: str) -> Reply:
        """GET a path."""
        return send(self.url + path)

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Reply:
        """POST JSON to a path."""
        return send(self.url + path, body, headers)

    def chat(self, **body: Any) -> Reply:
        """Send a chat completion without thinking; the message may be left out."""
        said = [{"role": "user", "content": "Restart a server."}]
        quiet = {"enable_thinking": False}
        return self.post(
            "/v1/chat/completions", {"messages": said, "chat_template_kwargs": quiet, **body}
        )

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics by name and some of its labels."""
        for line in self.get("/metrics").text.splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(
                f'{k}="{v}"' in head for k, v in labels.items()
            ):
                return float(value)
        raise KeyError(name)


@contextlib.contextmanager
def simulated(*flags: str, **behaviour: Any) -> Iterator[Engine]:
    """Run one engine; later flags win over FLAGS, behaviour over the instant one."""
    settings = parse([*FLAGS, *flags], {})
    wanted = Behaviour().changed({**QUICK, **behaviour})
    ready, stop, exits, urls = threading.Event(), [], [], []

    async def serve() -> None:
        done = asyncio.Event()
        stop.append((asyncio.get_running_loop(), done))
        async with running(settings, wanted, exit_process=exits.append) as simulator:
            urls.append(simulator.url)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10), "the simulator did not start"
        yield Engine(urls[0], exits)
    finally:
        loop, done = stop[0]
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        assert not thread.is_alive(), "the simulator did not stop"
