"""Many clients at once that do what clients do: wait, leave, read and write slowly.

Each storm has a small form in `make test` and its full form in `make test-full`. The gateway runs
in a process of its own: its memory is its own, and so is its core.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway_fakes import (
    Answer,
    Call,
    Client,
    PNG_640x480,
    answer,
    chat,
    config,
    engines,
    events,
    eventually,
    request_bytes,
    run,
)
from gateway_storm import Storm, storm
from glm_serving.gateway.room import FIRST_REQUESTS

MIB = 1024 * 1024
SECONDS = 200


def sizes(small: int, full: int) -> pytest.MarkDecorator:
    """The two forms of a storm."""
    marks = [pytest.mark.full, pytest.mark.timeout(SECONDS + 60)]
    return pytest.mark.parametrize("count", [small, pytest.param(full, marks=marks)])


async def asked(gateway: Storm, **fields: Any) -> Answer:
    """One request on a connection of its own."""
    client = await gateway.client()
    await client.request(chat(**fields))
    got = await client.answer()
    client.abort()
    return got


@sizes(60, 500)
def test_held_requests_are_all_served_by_one_cold_replica(tmp_path: Path, count: int) -> None:
    running = most_at_first = 0
    warm = asyncio.Event()

    async def engine_script(call: Call) -> None:
        nonlocal running, most_at_first
        running += 1
        if not warm.is_set():
            most_at_first = max(most_at_first, running)
            await warm.wait()
        await answer(call)
        running -= 1

    async def scenario() -> None:
        async with (
            engines(engine_script) as [engine],
            storm(tmp_path, config()) as gateway,
        ):
            asking = [asyncio.create_task(asked(gateway, stream=n % 2 == 0)) for n in range(count)]
            await gateway.until_held(count)
            gateway.endpoints(flash=[engine.url])
            await eventually(lambda: running >= FIRST_REQUESTS, "the first are sent")
            warm.set()
            got = await asyncio.gather(*asking)
            assert {one.status for one in got} == {200}
            assert all(one.complete for one in got)
            assert most_at_first <= 2 * FIRST_REQUESTS
            assert len(engine.calls) == count
            assert (await gateway.state())["tiers"]["flash"]["arrivals"] == count

    run(scenario(), SECONDS)


@sizes(60, 1000)
def test_idle_streams_cost_little_and_all_end_well(tmp_path: Path, count: int) -> None:
    go_on = asyncio.Event()

    async def idle(call: Call) -> None:
        await call.stream_head()
        first, *others = events(2)
        await call.chunk(first)
        await go_on.wait()
        for event in others:
            await call.chunk(event)
        await call.end()

    async def scenario() -> None:
        async with (
            engines(idle) as [engine],
            storm(tmp_path, config(), flash=[engine.url]) as gateway,
        ):
            before = gateway.memory_bytes()
            asking = [asyncio.create_task(asked(gateway, stream=True)) for _ in range(count)]
            await gateway.until(
                lambda s: s["tiers"]["flash"]["inFlight"] == count, "every stream stands"
            )
            assert gateway.memory_bytes() - before < 10 * MIB + count * 96 * 1024
            go_on.set()
            got = await asyncio.gather(*asking)
            assert {(one.status, one.complete) for one in got} == {(200, True)}
            assert {one.body for one in got} == {b"".join(events(2))}

    run(scenario(), SECONDS)


@sizes(80, 1000)
def test_when_half_of_the_clients_leave_the_other_half_is_served(
    tmp_path: Path, count: int
) -> None:
    choice = random.Random(7)
    left = 0

    async def unhurried(call: Call) -> None:
        await asyncio.sleep(choice.random() * 0.05)
        await call.stream_head()
        for event in events(3):
            if call.gone.is_set():
                return
            await call.chunk(event)
            await asyncio.sleep(choice.random() * 0.02)
        await call.end()

    async def one(gateway: Storm, leaves: bool) -> str:
        nonlocal left
        client = await gateway.client()
        await client.request(chat(stream=True))
        if leaves:
            await asyncio.sleep(choice.random() * 0.15)
            client.abort()
            left += 1
            return "left"
        got = await client.answer()
        client.abort()
        return "whole" if got.complete and got.body == b"".join(events(3)) else repr(got)

    async def scenario() -> None:
        async with (
            engines(unhurried, unhurried) as started,
            storm(tmp_path, config(), flash=[one.url for one in started]) as gateway,
        ):
            asking = []
            for number in range(count):
                asking.append(asyncio.create_task(one(gateway, leaves=number % 2 == 0)))
                await asyncio.sleep(0.002)
            ends = await asyncio.gather(*asking)
            assert (ends.count("whole"), ends.count("left")) == (count - count // 2, count // 2)
            await gateway.at_rest()

            def all_over() -> bool:
                calls = [call for engine in started for call in engine.calls]
                return all(call.gone.is_set() or call.writer.is_closing() for call in calls)

            for engine in started:
                engine.close_idle()
            await eventually(all_over, "no engine works for a client that left")

    run(scenario(), SECONDS)


PIECE = b"data: {" + b"x" * (64 * 1024) + b"}\n\n"


@sizes(8, 60)
def test_slow_readers_slow_their_engines_down_and_fill_no_memory(
    tmp_path: Path, count: int
) -> None:
    pieces = 160
    """10 MiB for each client, of which the gateway may keep next to nothing."""

    async def much(call: Call) -> None:
        await call.stream_head()
        for _ in range(pieces):
            await call.chunk(PIECE)
        await call.chunk(b"data: [DONE]\n\n")
        await call.end()

    async def scenario() -> None:
        async with (
            engines(much) as [engine],
            storm(tmp_path, config(), flash=[engine.url]) as gateway,
        ):
            before = gateway.memory_bytes()
            clients = [await gateway.client() for _ in range(count)]
            for client in clients:
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await client.request(chat(stream=True))
            await gateway.until(
                lambda s: s["tiers"]["flash"]["inFlight"] == count, "every stream runs"
            )
            assert (await asked(gateway, model="nobody")).status == 404
            assert gateway.memory_bytes() - before < 20 * MIB + count * MIB
            for client in clients:
                client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            got = await asyncio.gather(*(client.answer() for client in clients))
            length = pieces * len(PIECE) + len(b"data: [DONE]\n\n")
            assert {(one.complete, len(one.body)) for one in got} == {(True, length)}
            for client in clients:
                client.abort()

    run(scenario(), SECONDS)


@sizes(12, 100)
def test_slow_writers_keep_nobody_else_from_being_served(tmp_path: Path, count: int) -> None:
    go_on = asyncio.Event()
    picture = {"type": "image_url", "image_url": {"url": PNG_640x480 + "A" * MIB}}
    body = chat(messages=[{"role": "user", "content": [picture]}])

    async def slowly(client: Client) -> Answer:
        whole = request_bytes(body)
        half = len(whole) // 2
        await client.send(whole[:half])
        await go_on.wait()
        for start in range(half, len(whole), 64 * 1024):
            await client.send(whole[start : start + 64 * 1024])
            await asyncio.sleep(0.001)
        got = await client.answer()
        client.abort()
        return got

    async def scenario() -> None:
        async with (
            engines(answer) as [engine],
            storm(tmp_path, config(), flash=[engine.url]) as gateway,
        ):
            before = gateway.memory_bytes()
            clients = [await gateway.client() for _ in range(count)]
            writing = [asyncio.create_task(slowly(client)) for client in clients]
            arrived = count * (len(body) // 2 - 1024)
            await gateway.until(lambda s: s["bodyBytes"] >= arrived, "half of each has arrived")
            quick = await asyncio.gather(*(asked(gateway) for _ in range(20)))
            assert {one.status for one in quick} == {200}
            assert gateway.memory_bytes() - before < 20 * MIB + 2 * count * len(body)
            go_on.set()
            assert {one.status for one in await asyncio.gather(*writing)} == {200}
            assert [len(call.request.body) for call in engine.calls].count(len(body)) == count

    run(scenario(), SECONDS)


@sizes(20, 300)
def test_a_replica_that_hangs_costs_time_and_no_request(tmp_path: Path, count: int) -> None:
    async def hang(call: Call) -> None:
        await call.gone.wait()

    async def scenario() -> None:
        base = config()
        limits = msgspec.structs.replace(base.limits, first_token_timeout_seconds=2)
        base = msgspec.structs.replace(base, limits=limits)
        async with (
            engines(hang, answer) as [bad, good],
            storm(tmp_path, base, flash=[bad.url, good.url]) as gateway,
        ):
            got = await asyncio.gather(*(asked(gateway, stream=True) for _ in range(count)))
            assert {one.status for one in got} == {200}
            assert bad.calls
            assert len(good.calls) == count
            # It rests by now: what comes later does not meet it one by one.
            later = await asyncio.gather(*(asked(gateway, stream=True) for _ in range(count)))
            assert {one.headers["x-glm-replica"] for one in later} == {"flash-1"}

    run(scenario(), SECONDS)
