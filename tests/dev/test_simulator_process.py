"""The simulator as a process: start-up, SIGTERM with and without a drain, crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from simulators import FLAGS, finish_reasons, send, start_stream

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@contextlib.contextmanager
def process(
    *flags: str, read_stderr: bool = False, **variables: str
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A simulator and its address; with `read_stderr` the test reads what it says on stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "glm_dev.simulator", *FLAGS, "--port", str(port), *flags]
    stderr = subprocess.PIPE if read_stderr else None
    with subprocess.Popen(command, env={**os.environ, **variables}, stderr=stderr) as started:
        try:
            yield started, f"http://127.0.0.1:{port}"
        finally:
            started.kill()


def healthy(url: str) -> bool:
    try:
        return send(f"{url}/health").status == 200
    except OSError:
        return False


def await_health(url: str) -> float:
    started = time.monotonic()
    while not healthy(url):
        assert time.monotonic() < started + 15, "the simulator did not become healthy"
        time.sleep(0.02)
    return time.monotonic() - started


def test_connections_are_refused_until_the_start_up_time_is_over() -> None:
    with process(SIM_STARTUP_SECONDS="1") as (_, url):
        assert await_health(url) > 0.9


def test_sigterm_without_a_timeout_aborts_what_runs() -> None:
    with process(SIM_INTER_TOKEN_MS="500") as (started, url):
        await_health(url)
        connection = start_stream(url, {**CHAT, "max_tokens": 20})
        started.send_signal(signal.SIGTERM)
        assert finish_reasons(connection)[-1] == "abort"
        assert started.wait(10) == 0


def test_sigterm_with_a_timeout_lets_what_runs_finish() -> None:
    with process("--shutdown-timeout", "10", SIM_INTER_TOKEN_MS="50") as (started, url):
        await_health(url)
        connection = start_stream(url, {**CHAT, "max_tokens": 20})
        started.send_signal(signal.SIGTERM)
        assert finish_reasons(connection)[-1] == "length"
        assert started.wait(10) == 0


def test_sigterm_before_ready_ends_with_an_error() -> None:
    with process(read_stderr=True, SIM_STARTUP_SECONDS="60") as (started, url):
        assert started.stderr is not None
        assert b"refuses connections for 60 s" in started.stderr.readline()
        assert not healthy(url)
        started.send_signal(signal.SIGTERM)
        assert b"terminated before the engine was ready" in started.stderr.read()
        assert started.wait(10) == 1


@pytest.mark.parametrize("variable", ["SIM_CRASH_AFTER_REQUESTS", "SIM_CRASH_AFTER_TOKENS"])
def test_an_injected_crash_ends_the_process(variable: str) -> None:
    with process(**{variable: "1"}) as (started, url):
        await_health(url)
        with pytest.raises(OSError, match=r"closed|reset"):
            send(f"{url}/v1/chat/completions", CHAT)
        assert started.wait(10) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--tool-call-parser", "glm99"), "invalid tool call parser: glm99"),
        (("--limit-mm-per-prompt", "{"), "--limit-mm-per-prompt: '{' is not JSON"),
    ],
)
def test_a_bad_command_line_is_refused_with_a_sentence(flags: tuple[str, ...], words: str) -> None:
    command = [sys.executable, "-m", "glm_dev.simulator", *FLAGS, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert words in done.stderr
