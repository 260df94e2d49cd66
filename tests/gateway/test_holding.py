"""Requests that wait for a replica."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway_fakes import (
    Running,
    answer,
    chat,
    config,
    engines,
    eventually,
    run,
    running,
)
from glm_serving.gateway.config import Config
from glm_serving.gateway.holding import HoldQueue


def limited(held: int = 512, timeout: float = 300) -> Config:
    base = config()
    tiers = {
        name: msgspec.structs.replace(tier, hold_timeout_seconds=timeout)
        for name, tier in base.tiers.items()
    }
    limits = msgspec.structs.replace(base.limits, max_held_requests=held)
    return msgspec.structs.replace(base, tiers=tiers, limits=limits)


async def held(gateway: Running, count: int) -> None:
    await eventually(lambda: gateway.gateway.held == count, f"{count} requests are held")


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
            assert got.headers["retry-after"] == "1"
            assert got.headers["x-glm-tier"] == "flash"
            assert got.headers["x-glm-decision"] == "TextOnly"
            assert got.error["estimated_wait_seconds"] == pytest.approx(0.1)

    run(scenario())


def test_retry_after_stays_within_what_clients_honour() -> None:
    async def scenario() -> None:
        async with running(limited(held=0, timeout=600)) as gateway:
            got = await gateway.ask(chat())
            assert (got.status, got.error["code"]) == (429, "HoldQueueFull")
            assert got.headers["retry-after"] == "120"
            assert got.error["estimated_wait_seconds"] == 600

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


class _Waiter:
    def __init__(self, order: list[str], name: str) -> None:
        self._order, self._name = order, name

    def released(self) -> None:
        self._order.append(self._name)


def test_the_oldest_is_released_first() -> None:
    order: list[str] = []
    queue = HoldQueue(lambda: 10.0)
    for name, since in (("second", 5.0), ("third", 7.0), ("first", 1.0)):
        queue.add(_Waiter(order, name), since)
    assert queue.oldest_seconds() == 9.0
    queue.release()
    assert order == ["first", "second", "third"]
    assert len(queue) == 0


def test_the_estimate_follows_what_earlier_waits_took() -> None:
    now = 100.0
    queue = HoldQueue(lambda: now)
    assert queue.estimate_seconds(300) == 300
    queue.add(_Waiter([], "a"), 60.0)
    queue.release()
    assert queue.estimate_seconds(300) == 40
    queue.add(_Waiter([], "b"), 90.0)
    assert queue.estimate_seconds(300) == 30
