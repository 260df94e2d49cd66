"""The places of requests that left the queue and come again."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway_fakes import Call, answer, chat, engines, eventually, run, running
from gateway_holding import held, learnt, limited
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.places import (
    LATE_SECONDS,
    LEFT_SECONDS,
    MAX_PLACES,
    Places,
    identity,
    is_retry,
)
from glm_serving.gateway.room import FIRST_REQUESTS


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("told", "kept"), [(None, LEFT_SECONDS), (7.0, 7 + LATE_SECONDS), (120.0, 120 + LATE_SECONDS)]
)
def test_a_place_is_kept_until_the_client_must_be_back(told: float | None, kept: float) -> None:
    clock = Clock()
    places = Places(clock)
    for late, since in ((-0.1, 3.0), (0.1, None)):
        places.keep(b"a", 3.0, told)
        clock.now += kept + late
        assert places.expected() == (told is not None and late < 0)
        assert places.take(b"a") == since
    assert places.expected() == 0


def test_a_place_is_taken_once() -> None:
    places = Places(Clock())
    places.keep(b"a", 3.0, 5.0)
    assert (places.take(b"b"), places.take(b"a"), places.take(b"a")) == (None, 3.0, None)


def test_the_table_is_bounded_and_forgets_the_oldest() -> None:
    places = Places(Clock())
    for number in range(MAX_PLACES + 1):
        places.keep(b"%d" % number, float(number), 5.0)
    assert places.expected() == MAX_PLACES
    assert (places.take(b"0"), places.take(b"1")) == (None, 1.0)


LONG = b"x" * 200_000


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("", b"body"),
        ("a", b"other"),
        ("a", LONG + b"y"),
        ("a", b"y" + LONG),
        ("a", LONG + b"yy"),
    ],
)
def test_another_key_or_body_is_another_request(key: str, body: bytes) -> None:
    assert identity(key, body) == identity(key, bytearray(body))
    assert identity(key, body) != identity("a", b"body")
    assert identity(key, body) != identity(key, LONG + b"z")


@pytest.mark.parametrize(("told", "retry"), [(b"0", False), (b"1", True), (b"2", True)])
def test_a_retry_is_what_says_that_it_is_one(told: bytes, retry: bool) -> None:
    assert is_retry(RequestHead(headers={b"x-stainless-retry-count": told})) is retry
    assert not is_retry(RequestHead())


def test_a_retry_keeps_its_place_and_is_not_counted_again() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    async def scenario() -> None:
        async with engines(slow) as [engine], running(limited(timeout=60)) as gateway:
            impatient = await gateway.client()
            await impatient.request(chat("first"))
            await held(gateway, 1)
            asking = [asyncio.create_task(gateway.ask(chat())) for _ in range(FIRST_REQUESTS)]
            await held(gateway, 1 + FIRST_REQUESTS)
            impatient.abort()
            await held(gateway, FIRST_REQUESTS)
            again = {"x_stainless_retry_count": "1"}
            asking.append(asyncio.create_task(gateway.ask(chat("first"), **again)))
            await held(gateway, 1 + FIRST_REQUESTS)
            gateway.endpoints(flash=[engine.url])
            await eventually(lambda: len(engine.calls) == FIRST_REQUESTS, "the oldest are sent")
            assert chat("first") in [call.request.body for call in engine.calls]
            go_on.set()
            assert {one.status for one in await asyncio.gather(*asking)} == {200}
            assert gateway.gateway.report().tiers["flash"].arrivals == 1 + FIRST_REQUESTS

    run(scenario())


def test_the_same_request_sent_on_purpose_is_new_demand() -> None:
    async def scenario() -> None:
        async with running(limited(timeout=0.05)) as gateway:
            for _ in range(2):
                assert (await gateway.ask(chat())).status == 503
            assert gateway.gateway.report().tiers["flash"].arrivals == 2
            assert (await gateway.ask(chat(), x_stainless_retry_count="1")).status == 503
            assert gateway.gateway.report().tiers["flash"].arrivals == 2

    run(scenario())


def test_a_tier_is_wanted_for_those_that_were_told_to_come_again() -> None:
    async def scenario() -> None:
        async with running(limited(timeout=60)) as gateway:
            learnt(gateway, 150)
            assert (await gateway.ask(chat())).error["code"] == "WaitTooLong"
            state = msgspec.json.decode(gateway.admin.page(b"GET", b"/state").body)
            flash = state["tiers"]["flash"]
            assert (flash["held"], flash["expected"]) == (0, 1)

    run(scenario())


def test_a_retry_of_what_never_waited_is_served_and_counted() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            assert (await gateway.ask(chat(), x_stainless_retry_count="2")).status == 200
            await eventually(lambda: gateway.gateway.running == 0, "it is over")
            assert gateway.gateway.report().tiers["flash"].arrivals == 1

    run(scenario())
