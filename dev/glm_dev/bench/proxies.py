"""The proxies that are measured: how each starts on one core, and what the kernel knows of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_dev.bench import router

PROXY_CORE = 0
START_SECONDS = 30.0
STREAMS = 4096
"""Requests at once that every proxy is told to let through."""
KEY = "bench"
"""The API key that every request has; only the gateway looks at it."""
_OWN_CLOCK = 2
"""Low bits of a clock's id in Linux: the CPU time of a whole process, ended threads included."""
_FORGET_PEAK = "5"
"""Written to `clear_refs`: the peak of resident memory begins anew."""


class BenchError(Exception):
    """The measurement cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy under test: starts on `port` before the engine on `upstream`."""

    name: str
    command: Callable[[Path, int, int], list[str]]


class Running:
    """A started proxy, seen from the kernel."""

    def __init__(self, port: int, pids: list[int]) -> None:
        self.port = port
        self._pids = pids

    def cpu_seconds(self) -> float:
        """CPU time of its processes so far, in nanosecond steps."""
        return sum(time.clock_gettime(~pid << 3 | _OWN_CLOCK) for pid in self._pids)

    def forget_peak(self) -> None:
        """Let the peak of its memory begin with what it holds now."""
        for pid in self._pids:
            Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK)

    def peak_megabytes(self) -> float:
        """Largest resident memory of its processes since `forget_peak`, in 10^6 bytes."""
        return sum(_peak_kibibytes(pid) for pid in self._pids) * 1024 / 1e6


def proxies(nginx: str) -> list[Proxy]:
    """The gateway, the router and nginx.

    Raises:
        BenchError: nginx is not there, or the router cannot be installed.
    """
    path = shutil.which(nginx)
    if path is None:
        raise BenchError(
            f"{nginx} is not there to compare with: on Debian, apt-get install nginx-light, or"
            " name one with --nginx"
        )
    try:
        python = router.program()
    except router.RouterMissingError as error:
        raise BenchError(str(error)) from error
    return [
        Proxy("glm-gateway", _gateway_command),
        Proxy("vllm-router", lambda _, port, to: _router_command(python, port, to)),
        Proxy("nginx", lambda folder, port, to: _nginx_command(path, folder, port, to)),
    ]


@contextmanager
def started(proxy: Proxy, upstream: int) -> Iterator[Running]:
    """Run a proxy on its core until the block ends.

    Raises:
        BenchError: it does not listen in time.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = proxy.command(Path(folder), port, upstream)
        with (Path(folder) / "output").open("wb") as output:
            child = subprocess.Popen(
                ["taskset", "-c", str(PROXY_CORE), *command], stdout=output, stderr=output
            )
        try:
            asyncio.run(asyncio.wait_for(_listening(proxy, port, child), START_SECONDS))
            yield Running(port, [child.pid, *_children(child.pid)])
        finally:
            child.send_signal(signal.SIGTERM)
            _wait_for_end(child)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _gateway_command(folder: Path, port: int, upstream: int) -> list[str]:
    """With two tiers to choose from, and a key with every kind of limit."""
    (folder / "keys.json").write_text(json.dumps({"bench": _key_entry()}))
    (folder / "config.json").write_text(json.dumps(_gateway_config(upstream)))
    ports = ("--port", str(port), "--admin-port", "0", "--host", "127.0.0.1")
    program = (sys.executable, "-m", "glm_serving.gateway.cli", "--shutdown-delay", "0")
    return [*program, "--config", str(folder / "config.json"), *ports]


def _gateway_config(upstream: int) -> dict[str, Any]:
    endpoint = {"name": "mock", "url": f"http://127.0.0.1:{upstream}"}
    tier = {"contextTokens": 131072, "endpoints": [endpoint]}
    models = {"flagship": "glm-4.6v", "flash": "glm-4.6v-flash"}
    tiers = {name: {"model": model, **tier} for name, model in models.items()}
    return {"version": 1, "auth": {"keysFile": "keys.json"}, "tiers": tiers}


def _key_entry() -> dict[str, Any]:
    most = 1_000_000_000
    limits = {"requestsPerMinute": most, "tokensPerMinute": most, "maxInFlight": most}
    return {"sha256": hashlib.sha256(KEY.encode()).hexdigest(), "team": "bench", **limits}


def _router_command(python: Path, port: int, upstream: int) -> list[str]:
    """At its cheapest: its default policy asks the engine to tokenise each request beforehand."""
    return [
        *(str(python), "-m", "vllm_router.launch_router"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", f"http://127.0.0.1:{upstream}", "--policy", "round_robin"),
        *("--log-level", "warning", "--prometheus-port", str(free_port())),
        *("--max-concurrent-requests", str(STREAMS)),
    ]


def _nginx_command(program: str, folder: Path, port: int, upstream: int) -> list[str]:
    (folder / "nginx.conf").write_text(f"""
daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null; user root;
events {{ worker_connections {2 * STREAMS}; }}
http {{
  access_log {folder}/access.log; client_max_body_size 64m; client_body_buffer_size 32m;
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


async def _listening(proxy: Proxy, port: int, child: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            if child.poll() is not None:
                raise BenchError(f"{proxy.name} ended with {child.returncode}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


def _wait_for_end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(START_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def _peak_kibibytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
