"""Tiers that leave the configuration, and come back, while requests run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import msgspec

from gateway_fakes import (
    Answer,
    Call,
    Running,
    answer,
    chat,
    engines,
    eventually,
    run,
    running,
)
from glm_serving.gateway.config import Config


def without_flash(base: Config) -> Config:
    return msgspec.structs.replace(base, tiers={"flagship": base.tiers["flagship"]})


async def asked(gateway: Running, calls: list[Call]) -> asyncio.Task[Answer]:
    """A request to flash that is at its engine."""
    asking: asyncio.Task[Answer] = asyncio.create_task(gateway.ask(chat(model="glm-4.6v-flash")))
    await eventually(lambda: calls, "the request is at the engine")
    return asking


def answering_once(go_on: asyncio.Event) -> Callable[[Call], Awaitable[None]]:
    """An engine that keeps its requests until it may go on."""

    async def slow(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    return slow


def test_a_removed_tier_stays_in_state_until_its_last_request_ended() -> None:
    go_on = asyncio.Event()

    async def scenario() -> None:
        async with (
            engines(answering_once(go_on)) as [engine],
            running(flash=[engine.url]) as gateway,
        ):
            asking = await asked(gateway, engine.calls)
            gateway.gateway.apply(without_flash(gateway.gateway.config))
            report = gateway.gateway.report().tiers["flash"]
            assert (report.in_flight, report.held) == (1, 0)
            replica = report.replicas["flash-0"]
            assert (replica.in_flight, replica.routable) == (1, False)
            go_on.set()
            assert (await asking).status == 200
            await eventually(lambda: "flash" not in gateway.gateway.report().tiers, "it is gone")

    run(scenario())


def test_a_removed_tier_is_offered_to_nobody_while_its_last_request_runs() -> None:
    go_on = asyncio.Event()

    async def scenario() -> None:
        async with (
            engines(answering_once(go_on)) as [engine],
            running(flash=[engine.url]) as gateway,
        ):
            asking = await asked(gateway, engine.calls)
            gateway.gateway.apply(without_flash(gateway.gateway.config))
            got = await gateway.ask(chat(model="glm-4.6v-flash"))
            assert (got.status, got.error["code"]) == (404, "ModelNotFound")
            client = await gateway.client()
            await client.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
            listed = json.loads((await client.answer()).body)["data"]
            assert "flash" not in {model["tier"] for model in listed}
            go_on.set()
            await asking

    run(scenario())


def test_a_request_that_a_removed_tier_lost_is_refused_and_not_held() -> None:
    go_on = asyncio.Event()

    async def dies(call: Call) -> None:
        await go_on.wait()
        call.writer.transport.abort()

    async def scenario() -> None:
        async with engines(dies) as [engine], running(flash=[engine.url]) as gateway:
            asking = await asked(gateway, engine.calls)
            gateway.gateway.apply(without_flash(gateway.gateway.config))
            go_on.set()
            got = await asking
            assert (got.status, got.error["code"]) == (503, "TierRemoved")
            assert "flash" not in gateway.gateway.report().tiers

    run(scenario())


def test_a_tier_that_comes_back_keeps_what_runs_and_takes_requests_again() -> None:
    go_on = asyncio.Event()

    async def scenario() -> None:
        async with (
            engines(answering_once(go_on)) as [engine],
            running(flash=[engine.url]) as gateway,
        ):
            base = gateway.gateway.config
            asking = await asked(gateway, engine.calls)
            gateway.gateway.apply(without_flash(base))
            gateway.gateway.apply(base)
            report = gateway.gateway.report().tiers["flash"]
            assert (report.arrivals, report.replicas["flash-0"].routable) == (1, True)
            go_on.set()
            assert (await asking).status == 200
            assert (await gateway.ask(chat(model="glm-4.6v-flash"))).status == 200
            assert gateway.gateway.report().tiers["flash"].arrivals == 2

    run(scenario())


def test_a_removed_tier_without_requests_is_gone_at_once() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            gateway.gateway.apply(without_flash(gateway.gateway.config))
            assert set(gateway.gateway.report().tiers) == {"flagship"}

    run(scenario())
