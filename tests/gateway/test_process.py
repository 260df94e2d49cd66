"""The process `glm-gateway`: its configuration file, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway_fakes import (
    FAST,
    Call,
    Client,
    Running,
    answer,
    chat,
    config,
    engines,
    events,
    eventually,
    request_bytes,
    run,
    with_endpoints,
)
from glm_serving.gateway import cli
from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.admin import Admin
from glm_serving.gateway.filesource import FileSource
from glm_serving.gateway.server import Options, Server, StaticSource

START_SECONDS = 15


def write_config(path: Path, generation: int = 1, **urls: list[str]) -> None:
    changed = with_endpoints(config(generation=generation), **urls)
    other = path.with_suffix(".new")
    other.write_bytes(msgspec.json.encode(changed))
    other.replace(path)


@dataclass
class Process:
    """A gateway in a process of its own."""

    process: asyncio.subprocess.Process
    port: int


@contextlib.asynccontextmanager
async def process(path: Path, *arguments: str) -> AsyncIterator[Process]:
    """Start `glm-gateway` on free ports; it is ended at the end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "glm_serving.gateway.cli",
        *("--config", str(path), "--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stderr is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await child.stderr.readline()).decode()
        assert "listening on" in line, line
        yield Process(child, int(line.split("listening on ")[1].split(",")[0]))
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def test_the_command_serves_and_ends_in_order(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.stream_head()
        await call.chunk(events(1)[0])
        await finish.wait()
        await call.chunk(b"data: [DONE]\n\n")
        await call.end()

    async def scenario() -> None:
        async with engines(slow) as [engine]:
            path = tmp_path / "config.json"
            write_config(path, flash=[engine.url])
            async with process(path, "--shutdown-delay", "0.1") as gateway:
                client = await Client.open(gateway.port)
                await client.request(chat(stream=True))
                await client.head()
                await client.chunk()
                gateway.process.terminate()
                await _refused(gateway.port)
                finish.set()
                assert await client.chunk() == b"data: [DONE]\n\n"
                assert await client.chunk() is None
                client.writer.close()
                assert await gateway.process.wait() == 0
                assert gateway.process.stdout is not None
                line = json.loads(await gateway.process.stdout.readline())
                assert (line["status"], line["tier"], line["stream"]) == (200, "flash", True)

    run(scenario(), 25)


async def _refused(port: int) -> None:
    """Wait until the gateway accepts no more connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        writer.close()
        await asyncio.sleep(0.02)


def test_a_bad_configuration_ends_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"version": 2, "tiers": {}}')
    assert cli.main(["--config", str(path)]) == 2
    assert f"{path}: version is 2: this gateway reads version 1" in capsys.readouterr().err
    assert cli.main(["--config", str(tmp_path / "none.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_config_map_needs_its_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--kubernetes-configmap", "c"]) == 2
    assert "--namespace is empty" in capsys.readouterr().err


@contextlib.asynccontextmanager
async def served(path: Path, **options: Any) -> AsyncIterator[tuple[Server, Running]]:
    """A server in this process that reads its configuration from a file."""
    lines: list[dict[str, Any]] = []
    given = Options(host="127.0.0.1", port=0, admin_port=0, shutdown_delay=0, **options)
    source = StaticSource(FileSource(path), poll_seconds=0.02)

    def write(data: bytes) -> None:
        lines.extend(json.loads(line) for line in data.splitlines())

    server = Server(source, given, FAST, AccessLog(write))
    await server.start()
    one = Running(server.gateway, server.port, Admin(server.gateway, source.not_ready), lines)
    try:
        yield server, one
    finally:
        for client in one.clients:
            client.abort()
        if not server.gateway.draining:
            await server.stop()


def test_a_changed_file_is_applied_without_dropping_a_connection(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow, answer) as [one, two]:
            write_config(path, 1, flash=[one.url])
            async with served(path) as (_, gateway):
                client = await gateway.client()
                await client.request(chat())
                await eventually(lambda: one.calls, "the first request runs")
                write_config(path, 2, flash=[two.url])
                await eventually(lambda: gateway.gateway.report().generation == 2, "generation 2")
                go_on.set()
                assert (await client.answer()).status == 200
                await client.request(chat())
                assert (await client.answer()).status == 200
                assert (len(one.calls), len(two.calls)) == (1, 1)

    run(scenario())


def test_a_change_that_takes_a_replica_away_cuts_no_stream_and_no_idle_connection(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.json"
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        first, *rest = events(2)
        await call.stream_head()
        await call.chunk(first)
        await go_on.wait()
        for event in rest:
            await call.chunk(event)
        await call.end()

    async def scenario() -> None:
        async with engines(slow, answer) as [one, two]:
            write_config(path, 1, flash=[one.url])
            async with served(path) as (_, gateway):
                idle, streaming = await gateway.client(), await gateway.client()
                await streaming.request(chat(stream=True))
                await eventually(lambda: one.calls, "the stream runs")
                write_config(path, 2, flash=[two.url])
                await eventually(lambda: gateway.gateway.report().generation == 2, "generation 2")
                go_on.set()
                got = await streaming.answer()
                assert (got.complete, got.body) == (True, b"".join(events(2)))
                for client in (idle, streaming):
                    await client.request(chat())
                    assert (await client.answer()).status == 200
                assert (len(one.calls), len(two.calls)) == (1, 2)

    run(scenario())


def test_a_file_that_turned_bad_or_vanished_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "config.json"

    async def scenario() -> None:
        write_config(path, 7)
        async with served(path) as (_, gateway):
            path.write_text("{")
            await eventually(
                lambda: gateway.metric("glm_gateway_config_errors_total") == 1, "refused"
            )
            path.unlink()
            await eventually(
                lambda: gateway.metric("glm_gateway_config_errors_total") == 2, "noticed"
            )
            assert gateway.gateway.report().generation == 7
            write_config(path, 8)
            await eventually(lambda: gateway.gateway.report().generation == 8, "generation 8")

    run(scenario())


def test_while_stopping_requests_finish_and_ready_says_no(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine]:
            write_config(path, 1, flash=[engine.url])
            async with served(path, shutdown_timeout=10) as (server, gateway):
                client = await gateway.client()
                await client.request(chat())
                idle = await gateway.client()
                await eventually(lambda: engine.calls, "the request runs")
                stopping = asyncio.create_task(server.stop())
                assert await idle.ended()
                assert gateway.admin.page(b"GET", b"/readyz").status == 503
                assert gateway.admin.page(b"GET", b"/healthz").status == 200
                go_on.set()
                got = await client.answer()
                assert (got.status, got.headers["connection"]) == (200, "close")
                client.writer.close()
                await stopping

    run(scenario())


def test_while_stopping_a_request_that_is_still_sent_is_received_and_served(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.json"
    data = request_bytes(chat("x" * 100_000))

    async def scenario() -> None:
        async with engines(answer) as [engine]:
            write_config(path, 1, flash=[engine.url])
            async with served(path, shutdown_timeout=10) as (server, gateway):
                body, head = await gateway.client(), await gateway.client()
                await body.send(data[:50_000])
                await head.send(data[:20])
                await eventually(
                    lambda: sum(c.receiving for c in gateway.gateway._connections) == 2, "begun"
                )
                stopping = asyncio.create_task(server.stop())
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(stopping), 3 * FAST.linger)
                await body.send(data[50_000:])
                await head.send(data[20:])
                for client in (body, head):
                    assert (await client.answer()).status == 200
                    client.writer.close()
                await stopping

    run(scenario())


def test_a_request_that_is_not_received_in_time_to_stop_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "config.json"

    async def scenario() -> None:
        write_config(path)
        async with served(path, shutdown_timeout=0.05) as (server, gateway):
            client = await gateway.client()
            await client.send(request_bytes(chat("x" * 100_000))[:50_000])
            await eventually(lambda: gateway.metric("glm_gateway_body_bytes"), "it arrives")
            stopping = asyncio.create_task(server.stop())
            got = await client.answer()
            assert (got.status, got.error["code"]) == (503, "ShuttingDown")
            client.writer.close()
            await stopping
            assert gateway.metric("glm_gateway_body_bytes") == 0

    run(scenario())


def test_held_requests_wait_until_the_shutdown_timeout_and_then_get_503(tmp_path: Path) -> None:
    path = tmp_path / "config.json"

    async def endless(call: Call) -> None:
        await call.stream_head()
        await call.chunk(events(1)[0])
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(endless) as [engine]:
            write_config(path, 1, flagship=[engine.url])
            async with served(path, shutdown_timeout=0.3) as (server, gateway):
                held = await gateway.client()
                await held.request(chat())
                streaming = await gateway.client()
                await streaming.request(chat(model="glm-4.6v", stream=True))
                await eventually(lambda: gateway.gateway.held == 1, "one is held")
                await eventually(lambda: engine.calls, "one streams")
                stopping = asyncio.create_task(server.stop())
                got = await held.answer()
                assert (got.status, got.error["code"]) == (503, "ShuttingDown")
                (line,) = (line for line in gateway.log() if line["tier"] == "flash")
                assert line["heldMilliseconds"] >= 290, "it was not given the time"
                cut = await streaming.answer()
                assert not cut.complete
                assert b"ShuttingDown" in cut.body
                held.writer.close()
                await stopping
                assert gateway.gateway.running == 0

    run(scenario())


def test_a_held_request_is_still_served_while_stopping(tmp_path: Path) -> None:
    path = tmp_path / "config.json"

    async def scenario() -> None:
        async with engines(answer) as [engine]:
            write_config(path)
            async with served(path, shutdown_timeout=10) as (server, gateway):
                client = await gateway.client()
                await client.request(chat())
                await eventually(lambda: gateway.gateway.held == 1, "one is held")
                stopping = asyncio.create_task(server.stop())
                await eventually(lambda: gateway.gateway.draining, "it is stopping")
                write_config(path, 2, flash=[engine.url])
                assert (await client.answer()).status == 200
                client.writer.close()
                await stopping

    run(scenario())


def test_a_taken_port_ends_the_command_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    write_config(path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = ["--config", str(path), "--host", "127.0.0.1", "--admin-port", "0"]
        assert cli.main([*arguments, "--port", port]) == 2
    assert "address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["99999", "-5", "http"])
def test_a_port_that_is_none_is_refused_with_the_way_out(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--config", str(tmp_path / "config.json"), f"--port={port}"])
    assert f"{port!r} is no port: use 0 to 65535" in capsys.readouterr().err
