"""How much a replica takes of what waits, and in which order."""

from __future__ import annotations

import asyncio
import math

import pytest

from gateway_fakes import Call, answer, chat, config, engines, eventually, run, running
from glm_serving.gateway.room import DOUBLING_SECONDS, FIRST_REQUESTS, FULL_REQUESTS, Room


def test_a_warm_replica_takes_all_unless_others_wait() -> None:
    room = Room()
    assert room.limit(0.0, waiting=False) == math.inf
    assert room.limit(0.0, waiting=True) == FULL_REQUESTS


def test_a_replica_that_comes_while_requests_wait_begins_with_few() -> None:
    room = Room()
    room.start(100.0, in_flight=0)
    assert room.limit(100.0, waiting=True) == FIRST_REQUESTS
    assert room.limit(100.0, waiting=False) == FIRST_REQUESTS
    room.answered()
    assert room.limit(100.0, waiting=True) == FIRST_REQUESTS + 1
    room.start(100.0, in_flight=20)
    assert room.limit(100.0, waiting=True) == 20 + FIRST_REQUESTS


@pytest.mark.parametrize(("doublings", "times"), [(1, 2), (2, 4), (3, 8)])
def test_room_grows_by_time_alone(doublings: int, times: int) -> None:
    room = Room()
    room.start(100.0, in_flight=0)
    now = 100.0 + doublings * DOUBLING_SECONDS
    assert room.limit(now, waiting=True) == times * FIRST_REQUESTS


def test_once_grown_a_replica_is_warm_for_good() -> None:
    room = Room()
    room.start(100.0, in_flight=0)
    assert room.limit(100.0 + 99 * DOUBLING_SECONDS, waiting=False) == math.inf
    assert room.limit(100.0, waiting=True) == FULL_REQUESTS


def test_a_replica_that_was_asleep_gets_few_at_first_and_the_rest_as_it_answers() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], running() as gateway:
            asking = [asyncio.create_task(gateway.ask(chat())) for _ in range(60)]
            await eventually(lambda: gateway.gateway.held == 60, "all wait")
            gateway.endpoints(flash=[engine.url])
            await eventually(lambda: len(engine.calls) == FIRST_REQUESTS, "the first are sent")
            assert gateway.gateway.held == 60 - FIRST_REQUESTS
            asking.append(asyncio.create_task(gateway.ask(chat("late"))))
            await eventually(lambda: gateway.gateway.held == 61 - FIRST_REQUESTS, "it waits too")
            go_on.set()
            assert {got.status for got in await asyncio.gather(*asking)} == {200}
            assert b"late" in engine.calls[-1].request.body

    run(scenario())


def test_what_one_replica_has_no_room_for_goes_to_the_next_that_is_ready() -> None:
    async def never(call: Call) -> None:
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(never, answer) as [first, second], running() as gateway:
            clients = [await gateway.client() for _ in range(30)]
            for client in clients:
                await client.request(chat())
            await eventually(lambda: gateway.gateway.held == 30, "all wait")
            gateway.endpoints(flash=[first.url])
            await eventually(lambda: len(first.calls) == FIRST_REQUESTS, "the first are sent")
            gateway.endpoints(flash=[first.url, second.url])
            await eventually(lambda: len(first.calls) + len(second.calls) == 30, "all are sent")
            assert len(second.calls) >= 30 / 2
            for client in clients:
                client.abort()

    run(scenario())


def test_a_replica_that_comes_while_others_serve_alone_takes_what_it_gets() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], running(config(), flash=[engine.url]) as gateway:
            asking = [asyncio.create_task(gateway.ask(chat())) for _ in range(40)]
            await eventually(lambda: len(engine.calls) == 40, "all are sent")
            go_on.set()
            assert {got.status for got in await asyncio.gather(*asking)} == {200}

    run(scenario())
