"""Requests that wait for a replica."""

from __future__ import annotations

import asyncio
import hashlib
import json

import msgspec
import pytest

from gateway_fakes import (
    Engine,
    answer,
    chat,
    engines,
    run,
    running,
    shorter,
)
from gateway_holding import held, learnt, limited
from glm_serving.gateway.config import Auth
from glm_serving.gateway.keys import read_entries


def test_held_requests_are_released_when_a_replica_becomes_ready() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running() as gateway:
            asking = [asyncio.create_task(gateway.ask(chat())) for _ in range(20)]
            await held(gateway, 20)
            report = gateway.gateway.report().tiers["flash"]
            assert (report.arrivals, report.held, report.in_flight) == (20, 20, 0)
            assert report.oldest_held_seconds > 0
            assert gateway.metric("glm_gateway_held", tier="flash") == 20
            gateway.endpoints(flash=[engine.url])
            answers = await asyncio.gather(*asking)
            assert {got.status for got in answers} == {200}
            assert len(engine.calls) == 20
            assert gateway.gateway.report().tiers["flash"].arrivals == 20
            assert gateway.metric("glm_gateway_hold_seconds_count", tier="flash") == 20
            assert all("heldMilliseconds" in line for line in gateway.log())
            assert (await gateway.ask(chat())).status == 200
            assert "heldMilliseconds" not in gateway.log()[-1]

    run(scenario())


def test_a_request_that_was_held_for_no_time_is_logged_as_held() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running() as gateway:
            gateway.gateway.clock = lambda: 100.0
            asking = asyncio.create_task(gateway.ask(chat()))
            await held(gateway, 1)
            gateway.endpoints(flash=[engine.url])
            assert (await asking).status == 200
            assert gateway.log()[-1]["heldMilliseconds"] == 0

    run(scenario())


def test_no_byte_is_sent_while_a_request_is_held() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running() as gateway:
            client = await gateway.client()
            await client.request(chat(stream=True))
            await held(gateway, 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.1)
            gateway.endpoints(flash=[engine.url])
            assert (await client.answer()).status == 200

    run(scenario())


def test_a_client_that_leaves_the_queue_is_forgotten() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running() as gateway:
            client = await gateway.client()
            await client.request(chat())
            await held(gateway, 1)
            client.abort()
            await held(gateway, 0)
            gateway.endpoints(flash=[engine.url])
            assert (await gateway.ask(chat())).status == 200
            assert len(engine.calls) == 1
            assert gateway.metric("glm_gateway_aborts_total", tier="flash", phase="held") == 1

    run(scenario())


def test_after_the_deadline_a_held_request_gets_503() -> None:
    async def scenario() -> None:
        async with running(limited(timeout=0.05)) as gateway:
            got = await gateway.ask(chat())
            assert (got.status, got.error["code"]) == (503, "HoldTimeout")
            assert got.headers["retry-after"] == "10"
            assert got.headers["x-glm-tier"] == "flash"
            assert got.headers["x-glm-decision"] == "TextOnly"
            assert "estimated_wait_seconds" not in got.error

    run(scenario())


def test_past_the_cap_requests_are_refused_and_those_in_the_queue_stay() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(limited(held=2)) as gateway:
            waiting = [asyncio.create_task(gateway.ask(chat())) for _ in range(2)]
            await held(gateway, 2)
            assert (await gateway.ask(chat())).status == 429
            gateway.endpoints(flash=[engine.url])
            assert {got.status for got in await asyncio.gather(*waiting)} == {200}

    run(scenario())


def test_a_tier_that_is_removed_answers_what_waits_for_it() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            asking = asyncio.create_task(gateway.ask(chat()))
            await held(gateway, 1)
            base = gateway.gateway.config
            only = {"flagship": base.tiers["flagship"]}
            gateway.gateway.apply(msgspec.structs.replace(base, tiers=only))
            got = await asking
            assert (got.status, got.error["code"]) == (503, "TierRemoved")

    run(scenario())


def test_a_start_that_outlasts_the_request_is_told_at_once() -> None:
    async def scenario() -> None:
        async with running(limited(timeout=60)) as gateway:
            learnt(gateway, 150)
            got = await gateway.ask(chat())
            assert (got.status, got.error["code"]) == (503, "WaitTooLong")
            assert got.error["estimated_wait_seconds"] == 150
            assert got.headers["retry-after"] == "120"
            assert "heldMilliseconds" not in gateway.log()[-1]

    run(scenario())


def test_a_start_that_is_soon_over_is_waited_for() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(limited(timeout=60)) as gateway:
            learnt(gateway, 50)
            asking = asyncio.create_task(gateway.ask(chat()))
            await held(gateway, 1)
            gateway.endpoints(flash=[engine.url])
            assert (await asking).status == 200

    run(scenario())


@pytest.mark.parametrize("told", ["0.1", "0.10"])
def test_a_client_hears_before_its_own_patience_ends(told: str) -> None:
    async def scenario() -> None:
        async with running() as gateway:
            loop = asyncio.get_running_loop()
            began = loop.time()
            got = await gateway.ask(chat(), x_stainless_read_timeout=told)
            assert (got.status, got.error["code"]) == (503, "HoldTimeout")
            assert loop.time() - began < 0.5

    run(scenario())


@pytest.mark.parametrize("told", ["", "nan", "inf", "-1", "0", "soon", "None"])
def test_a_patience_that_cannot_be_read_changes_nothing(told: str) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running() as gateway:
            headers = {"x_stainless_read_timeout": told}
            asking = asyncio.create_task(gateway.ask(chat(), **headers))
            await held(gateway, 1)
            gateway.endpoints(flash=[engine.url])
            assert (await asking).status == 200

    run(scenario())


def test_a_tier_s_queue_takes_no_place_of_another_s() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(limited(held=1)) as gateway:
            waiting = [
                asyncio.create_task(gateway.ask(chat(model=model)))
                for model in ("glm-4.6v", "glm-4.6v-flash")
            ]
            await held(gateway, 2)
            got = await gateway.ask(chat(model="glm-4.6v"))
            assert (got.status, got.error["code"]) == (429, "HoldQueueFull")
            assert "1 of at most 1 requests for flagship" in got.error["message"]
            gateway.endpoints(flash=[engine.url], flagship=[engine.url])
            assert {got.status for got in await asyncio.gather(*waiting)} == {200}

    run(scenario())


def test_a_queue_keeps_a_quarter_of_the_bytes_of_bodies() -> None:
    async def scenario() -> None:
        base = limited()
        limits = msgspec.structs.replace(base.limits, max_in_flight_bytes=40_000)
        small = msgspec.structs.replace(base, limits=limits)
        async with engines(answer) as [engine], running(small) as gateway:
            waiting = asyncio.create_task(gateway.ask(chat("x" * 8000)))
            await held(gateway, 1)
            got = await gateway.ask(chat("x" * 8000))
            assert (got.status, got.error["code"]) == (429, "HoldQueueFull")
            assert "of at most 10000 bytes for flash" in got.error["message"]
            assert (await gateway.ask(chat(model="nobody"))).status == 404
            gateway.endpoints(flash=[engine.url])
            assert (await waiting).status == 200

    run(scenario())


def test_what_a_static_endpoint_refuses_waits_until_it_is_back() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine]:
            await engine.stop()
            async with running(flash=[engine.url]) as gateway:
                asking = asyncio.create_task(gateway.ask(chat()))
                await held(gateway, 1)
                back = await Engine(answer).start(engine.port)
                assert (await asking).status == 200
                await back.stop()

    run(scenario())


def test_a_static_endpoint_that_refuses_to_the_end_is_told_when_it_is_tried_next() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine]:
            await engine.stop()
            timings = shorter(back_off=40.0, max_back_off=40.0)
            async with running(limited(timeout=0.1), timings, flash=[engine.url]) as gateway:
                got = await gateway.ask(chat())
                assert (got.status, got.error["code"]) == (503, "HoldTimeout")
                assert 35 <= int(got.headers["retry-after"]) <= 40
                assert "estimated_wait_seconds" not in got.error

    run(scenario())


def test_one_of_several_keys_takes_half_of_a_queue() -> None:
    def entry(key: str) -> bytes:
        return json.dumps({"sha256": hashlib.sha256(key.encode()).hexdigest()}).encode()

    async def scenario() -> None:
        locked = msgspec.structs.replace(limited(held=4), auth=Auth(keys_file="keys.json"))
        async with engines(answer) as [engine], running(locked) as gateway:
            gateway.gateway.take_keys(read_entries({"a": entry("a-key"), "b": entry("b-key")}))
            asking = [asyncio.create_task(gateway.ask(chat(), x_api_key="a-key")) for _ in "12"]
            await held(gateway, 2)
            got = await gateway.ask(chat(), x_api_key="a-key")
            assert (got.status, got.error["code"]) == (429, "HoldQueueFull")
            assert "the key a holds 2 of at most 2 requests for flash" in got.error["message"]
            asking.append(asyncio.create_task(gateway.ask(chat(), x_api_key="b-key")))
            await held(gateway, 3)
            gateway.gateway.take_keys(read_entries({"a": entry("a-key")}))
            asking.append(asyncio.create_task(gateway.ask(chat(), x_api_key="a-key")))
            await held(gateway, 4)
            gateway.endpoints(flash=[engine.url])
            assert {one.status for one in await asyncio.gather(*asking)} == {200}

    run(scenario())
