"""CPU time of a proxy per streamed chunk, per small request and per megabyte of upload.

The proxy is pinned to one core, load and mock engine share another, and the proxy's CPU time is
read from the kernel: with two cores, wall-clock rates would measure the load generator as well.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from glm_dev.bench import mock

PROXY_CORE, LOAD_CORE = 0, 1
START_SECONDS = 15.0
MICRO = 1e6


class BenchError(Exception):
    """The measurement cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One load: `units` of what the result is counted in."""

    name: str
    units: int
    unit: str
    load: Callable[[int], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy under test: starts on `port` before the engine on `upstream`."""

    name: str
    command: Callable[[Path, int, int], list[str]]


def cases() -> list[Case]:
    """The loads, sized to a few seconds each."""
    image = "data:image/png;base64," + "A" * 1_000_000
    part = {"type": "image_url", "image_url": {"url": image}}
    upload = _body(messages=[{"role": "user", "content": [part]}])
    paced = _body(stream=True, mock={"chunks": 200, "pause": 0.02})
    burst = _body(stream=True, mock={"chunks": 200, "pause": 0})
    small = _body()
    return [
        Case("streamed chunk, 50 streams at 20 ms", 50 * 200, "chunk", _load(paced, 50, 1)),
        Case("burst of 200 chunks", 16 * 20, "stream", _load(burst, 16, 20)),
        Case("small unary request", 16 * 250, "request", _load(small, 16, 250)),
        Case("1 MB image request", 2 * 100, "request", _load(upload, 2, 100)),
    ]


def measure(nginx: str, repeats: int) -> str:
    """Measure both proxies, interleaved; returns a Markdown table.

    Raises:
        BenchError: this is not Linux with at least two cores, nginx is missing, or a proxy does
            not start.
    """
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        raise BenchError("this needs Linux and two cores: proxy and load are pinned apart")
    proxies = [Proxy("glm-gateway", _gateway_command)]
    path = shutil.which(nginx)
    if path is None:
        raise BenchError(
            f"{nginx} is not there to compare with: on Debian, apt-get install nginx-light, or"
            " name one with --nginx"
        )
    proxies.append(Proxy("nginx", lambda folder, port, to: _nginx_command(path, folder, port, to)))
    found: dict[tuple[str, str], list[float]] = {}
    os.sched_setaffinity(0, {LOAD_CORE})
    with mock.engine() as upstream:
        for _ in range(repeats):
            for proxy in proxies:
                for case, micros in _one_round(proxy, upstream):
                    found.setdefault((case, proxy.name), []).append(micros)
    return _table([proxy.name for proxy in proxies], found)


def _one_round(proxy: Proxy, upstream: int) -> Iterator[tuple[str, float]]:
    with _started(proxy, upstream) as (port, pids):
        uvloop.run(_load(_body(), 4, 20)(port))
        for case in cases():
            before = _cpu_seconds(pids)
            uvloop.run(case.load(port))
            yield (
                f"{case.name}, per {case.unit}",
                (_cpu_seconds(pids) - before) / case.units * MICRO,
            )


def _body(**fields: Any) -> bytes:
    fields.setdefault("messages", [{"role": "user", "content": "How do I drain a node?"}])
    return json.dumps({"model": "glm", "max_tokens": 64, **fields}).encode()


def _load(body: bytes, clients: int, requests: int) -> Callable[[int], Coroutine[Any, Any, None]]:
    """A closed loop: each client sends its requests one after another on one connection."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\ncontent-type: application/json\r\n"
    data = head + b"content-length: %d\r\n\r\n%s" % (len(body), body)

    async def client(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        for _ in range(requests):
            writer.write(data)
            await _whole_answer(reader)
        writer.close()
        await writer.wait_closed()

    async def load(port: int) -> None:
        await asyncio.gather(*(client(port) for _ in range(clients)))

    return load


async def _whole_answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise BenchError(f"a request failed: {head!r}")
    if b"transfer-encoding" in head:
        await reader.readuntil(b"\r\n0\r\n\r\n")
    else:
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


@contextmanager
def _started(proxy: Proxy, upstream: int) -> Iterator[tuple[int, list[int]]]:
    """The proxy's port and the ids of its processes."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            ["taskset", "-c", str(PROXY_CORE), *proxy.command(Path(folder), port, upstream)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _await_port(port, child)
            yield port, [child.pid, *_children(child.pid)]
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(START_SECONDS)


def _gateway_command(folder: Path, port: int, upstream: int) -> list[str]:
    endpoint = {"name": "mock", "url": f"http://127.0.0.1:{upstream}"}
    tier = {"model": "glm-4.6v-flash", "contextTokens": 131072, "endpoints": [endpoint]}
    (folder / "config.json").write_text(json.dumps({"version": 1, "tiers": {"flash": tier}}))
    ports = ("--port", str(port), "--admin-port", "0", "--host", "127.0.0.1")
    program = (sys.executable, "-m", "glm_serving.gateway.cli", "--shutdown-delay", "0")
    return [*program, "--config", str(folder / "config.json"), *ports]


def _nginx_command(program: str, folder: Path, port: int, upstream: int) -> list[str]:
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null; user root;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log; client_max_body_size 64m; client_body_buffer_size 8m;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/a; uwsgi_temp_path {folder}/b; scgi_temp_path {folder}/c;
  keepalive_requests 1000000;
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
""")
    return [program, "-c", f"{folder}/nginx.conf", "-p", str(folder)]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _await_port(port: int, child: subprocess.Popen[bytes]) -> None:
    async def connected() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                if child.poll() is not None:
                    raise BenchError(f"{child.args!r} ended with {child.returncode}") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    asyncio.run(asyncio.wait_for(connected(), START_SECONDS))


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _cpu_seconds(pids: list[int]) -> float:
    """Time on a core of every thread of these processes; the kernel counts nanoseconds."""
    threads = (path for pid in pids for path in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9


def _table(names: list[str], found: dict[tuple[str, str], list[float]]) -> str:
    lines = [
        f"| CPU microseconds of the proxy | {' | '.join(names)} |",
        "|---|" + "---:|" * len(names),
    ]
    for case in dict.fromkeys(case for case, _ in found):
        cells = []
        for name in names:
            values = found[case, name]
            spread = f"{min(values):.1f}-{max(values):.1f}"
            cells.append(f"{statistics.median(values):.1f} ({spread})")
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
