"""Replicas that come and go while clients wait, leave and come again: nothing is lost or left."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest

from gateway_fakes import (
    Answer,
    Call,
    Running,
    answer,
    chat,
    engines,
    events,
    run,
    running,
    shorter,
)
from gateway_holding import learnt, limited
from glm_serving.gateway.answer import COMMENT

REQUESTS = 200
WHOLE = b"".join(events(3))
IMPATIENT = shorter(silence=0.05, comment=0.02, back_off=0.001)


def verdict(got: Answer) -> str:
    """What a client can tell of its answer; anything else fails the test."""
    body = got.body.replace(COMMENT, b"")
    if got.status != 200:
        assert got.error["code"] in {"HoldTimeout", "WaitTooLong", "HoldQueueFull"}
        assert 1 <= int(got.headers["retry-after"]) <= 120
        return "refused"
    if got.complete:
        assert body == WHOLE or b'"content": "hi"' in body
        return "whole"
    error = json.loads(body.removeprefix(b"data: "))["error"]
    assert error["code"] in {"HoldTimeout", "WaitTooLong"}
    return "told"


async def one(gateway: Running, choice: random.Random, number: int) -> str:
    body = chat(f"request {number}", stream=choice.random() < 0.6)
    headers = {"x_stainless_read_timeout": "0.5"} if choice.random() < 0.2 else {}
    for attempt in range(3):
        client = await gateway.client()
        await client.request(body, x_stainless_retry_count=str(attempt), **headers)
        if choice.random() < 0.2:
            await asyncio.sleep(choice.random() * 0.1)
            client.abort()
            continue
        end = verdict(await client.answer())
        if end != "refused":
            return end
    return "gave up"


async def flap(gateway: Running, choice: random.Random, urls: list[str]) -> None:
    """Replicas come and go until the test is over; then all of them stay."""
    try:
        while True:
            gateway.endpoints(flash=[url for url in urls if choice.random() < 0.4])
            await asyncio.sleep(choice.random() * 0.1)
    finally:
        gateway.endpoints(flash=urls)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_while_replicas_come_and_go_every_request_ends_in_one_clear_way(seed: int) -> None:
    choice = random.Random(seed)

    async def unhurried(call: Call) -> None:
        await asyncio.sleep(choice.random() * 0.02)
        await answer(call)

    async def scenario() -> None:
        async with (
            engines(unhurried, unhurried) as started,
            running(limited(held=60, timeout=1.5), IMPATIENT) as gateway,
        ):
            learnt(gateway, 1.0)
            flapping = asyncio.create_task(flap(gateway, choice, [one.url for one in started]))
            asking = []
            for number in range(REQUESTS):
                asking.append(asyncio.create_task(one(gateway, choice, number)))
                await asyncio.sleep(0.005)
            ends = Counter(await asyncio.gather(*asking))
            flapping.cancel()
            assert ends["whole"] > REQUESTS / 2, ends
            await gateway.at_rest()
            flash = gateway.gateway.report().tiers["flash"]
            assert flash.held_work.bytes == flash.held_work.tokens == 0
            assert flash.arrivals <= len(gateway.log())

    run(scenario(), 28)
