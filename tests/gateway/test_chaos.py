"""Engines that die in every way and clients that leave at any moment, all at once."""

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

REQUESTS = 300
WHOLE = b"".join(events(3))


def script(choice: random.Random) -> object:
    """An engine that misbehaves in a third of its requests."""

    async def answers(call: Call) -> None:
        fate = choice.choices(["well", "die", "unavailable", "torn", "late"], [66, 10, 10, 10, 4])[
            0
        ]
        if fate == "die":
            call.writer.transport.abort()
        elif fate == "unavailable":
            await call.json(503, {})
        elif fate == "torn" and json.loads(call.request.body).get("stream"):
            await call.stream_head()
            await call.chunk(WHOLE[: choice.randrange(1, len(WHOLE))])
            call.writer.transport.abort()
        else:
            await asyncio.sleep(choice.random() * (0.2 if fate == "late" else 0.01))
            await answer(call)

    return answers


def verdict(got: Answer) -> str:
    """What a client can tell of its answer; anything else fails the test."""
    if got.status != 200:
        assert got.complete
        assert got.error["code"] in {"UpstreamFailed", "HoldTimeout", "RequestKillsEngine"}
        return "refused"
    if got.complete:
        whole = got.body == WHOLE or b'"content": "hi"' in got.body
        assert whole, got.body
        return "whole"
    assert b"StreamBroken" in got.body.rpartition(b"data: ")[2]
    return "broken"


async def one(gateway: Running, choice: random.Random, number: int) -> str:
    client = await gateway.client()
    # Each body is another: one that two engines died of is refused when it comes again.
    await client.request(chat(f"request {number}", stream=choice.random() < 0.5))
    if choice.random() < 0.3:
        await asyncio.sleep(choice.random() * 0.05)
        client.abort()
        return "left"
    return verdict(await client.answer())


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_ends_in_one_clear_way_and_nothing_is_left(seed: int) -> None:
    choice = random.Random(seed)

    async def scenario() -> None:
        scripts = [script(choice) for _ in range(3)]
        async with (
            engines(*scripts) as started,  # type: ignore[arg-type]
            running(
                timings=shorter(back_off=0.001), flash=[engine.url for engine in started]
            ) as gateway,
        ):
            asking = []
            for number in range(REQUESTS):
                asking.append(asyncio.create_task(one(gateway, choice, number)))
                await asyncio.sleep(0.001)
            ends = Counter(await asyncio.gather(*asking))
            assert ends["whole"] > REQUESTS / 3
            assert ends["broken"] > 0
            assert ends["refused"] < REQUESTS / 10
            await gateway.at_rest()
            assert gateway.gateway.report().tiers["flash"].arrivals <= REQUESTS
            assert len(gateway.log()) == gateway.gateway.report().tiers["flash"].arrivals

    run(scenario())
