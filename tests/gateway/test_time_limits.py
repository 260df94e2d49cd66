"""How long a request may take, and what a replica that lets it wait is taken for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from gateway_fakes import Call, answer, chat, config, engines, events, eventually, run, running
from glm_serving.gateway.config import Config, Limits
from glm_serving.gateway.reasons import FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT, TOTAL_TIMEOUT
from glm_serving.gateway.timelimits import Stopwatch

LIMITS = Limits(first_token_timeout_seconds=10, idle_timeout_seconds=20, total_timeout_seconds=100)


def limited(**seconds: float) -> Config:
    base = config()
    return msgspec.structs.replace(base, limits=msgspec.structs.replace(base.limits, **seconds))


async def hang(call: Call) -> None:
    await call.gone.wait()


async def hang_inside(call: Call) -> None:
    await call.stream_head()
    await call.chunk(events(1)[0])
    await call.gone.wait()


def test_a_hung_replica_is_left_for_another_one() -> None:
    async def scenario() -> None:
        async with (
            engines(hang, answer) as [bad, good],
            running(limited(first_token_timeout_seconds=0.1), flash=[bad.url, good.url]) as gateway,
        ):
            got = await gateway.ask(chat(stream=True))
            assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-1")
            await asyncio.wait_for(bad.calls[0].gone.wait(), 5)
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause="timeout") == 1

    run(scenario())


def test_a_request_does_not_wait_for_a_third_replica_that_hangs() -> None:
    async def scenario() -> None:
        async with (
            engines(hang, hang, hang) as started,
            running(
                limited(first_token_timeout_seconds=0.1),
                flash=[engine.url for engine in started],
            ) as gateway,
        ):
            got = await gateway.ask(chat(stream=True))
            assert (got.status, got.error["code"]) == (504, "FirstTokenTimeout")
            assert sum(len(engine.calls) for engine in started) == 2
            assert gateway.log()[-1]["error"] == "FirstTokenTimeout"

    run(scenario())


def test_a_busy_replica_is_not_taken_for_a_hung_one() -> None:
    async def script(call: Call) -> None:
        if b"late" in call.request.body:
            await hang(call)
        else:
            await answer(call)

    async def scenario() -> None:
        async with (
            engines(script) as [engine],
            running(limited(first_token_timeout_seconds=0.3), flash=[engine.url]) as gateway,
        ):
            asking = asyncio.create_task(gateway.ask(chat("late", stream=True)))
            await eventually(lambda: engine.calls, "the request is at the engine")
            assert (await gateway.ask(chat())).status == 200
            got = await asking
            assert (got.status, got.error["code"]) == (504, "FirstTokenTimeout")
            replica = gateway.gateway.pools["flash"].tier.replicas["flash-0"]
            assert replica.usable(gateway.gateway.clock())
            assert len(engine.calls) == 2

    run(scenario())


def test_an_unary_answer_may_take_longer_than_a_first_token() -> None:
    async def script(call: Call) -> None:
        await go_on.wait()
        await answer(call)

    go_on = asyncio.Event()

    async def scenario() -> None:
        async with (
            engines(script) as [engine],
            running(limited(first_token_timeout_seconds=0.01), flash=[engine.url]) as gateway,
        ):
            asking = asyncio.create_task(gateway.ask(chat()))
            await eventually(lambda: engine.calls, "the request is at the engine")
            gateway.gateway.sweep()
            (exchange,) = gateway.gateway._exchanges
            exchange.sweep(gateway.gateway.clock() + 60)
            go_on.set()
            assert (await asking).status == 200

    run(scenario())


def test_an_answer_that_pauses_too_long_is_cut_with_an_error_event() -> None:
    async def scenario() -> None:
        async with (
            engines(hang_inside) as [engine],
            running(limited(idle_timeout_seconds=0.1), flash=[engine.url]) as gateway,
        ):
            got = await gateway.ask(chat(stream=True))
            assert (got.status, got.complete) == (200, False)
            error = json.loads(got.body.rpartition(b"data: ")[2])["error"]
            assert error["code"] == "IdleTimeout"
            await asyncio.wait_for(engine.calls[0].gone.wait(), 5)
            assert gateway.log()[-1]["error"] == "IdleTimeout"
            replica = gateway.gateway.pools["flash"].tier.replicas["flash-0"]
            assert replica.breaker.until > 0

    run(scenario())


@pytest.mark.parametrize(
    ("script", "fields", "ending"),
    [
        (hang, {}, "refused"),
        (hang, {"stream": True}, "refused"),
        (hang_inside, {"stream": True}, "cut"),
        (None, {}, "refused"),
    ],
)
def test_a_request_ends_at_its_total_time(script: Any, fields: dict[str, Any], ending: str) -> None:
    async def scenario() -> None:
        async with engines(script or answer) as [engine]:
            urls = [engine.url] if script else []
            async with running(limited(total_timeout_seconds=0.1), flash=urls) as gateway:
                got = await gateway.ask(chat(**fields))
                assert got.complete == (ending == "refused")
                assert b"TotalTimeout" in got.body
                if ending == "refused":
                    assert got.status == 504
                assert gateway.log()[-1]["error"] == "TotalTimeout"

    run(scenario())


def test_a_stream_is_over_its_limit_when_its_first_token_is_late() -> None:
    watch = Stopwatch(0.0)
    watch.sent(50.0)
    assert watch.waited_too_long(60.0, LIMITS, streamed=True) is None
    assert watch.waited_too_long(60.1, LIMITS, streamed=True) is FIRST_TOKEN_TIMEOUT
    assert watch.waited_too_long(60.1, LIMITS, streamed=False) is None
    assert watch.waited_too_long(100.1, LIMITS, streamed=False) is TOTAL_TIMEOUT


def test_an_answer_is_idle_only_while_its_client_waits_for_it() -> None:
    watch = Stopwatch(0.0)
    assert watch.paused_too_long(0.0, LIMITS, 10, stalled=False) is None
    assert watch.paused_too_long(20.0, LIMITS, 10, stalled=False) is None
    assert watch.paused_too_long(21.0, LIMITS, 11, stalled=False) is None
    assert watch.paused_too_long(41.0, LIMITS, 11, stalled=True) is None
    assert watch.paused_too_long(61.0, LIMITS, 11, stalled=False) is None
    assert watch.paused_too_long(61.1, LIMITS, 11, stalled=False) is IDLE_TIMEOUT


def test_progress_does_not_extend_the_total_time() -> None:
    watch = Stopwatch(0.0)
    assert watch.paused_too_long(100.1, LIMITS, 99, stalled=False) is TOTAL_TIMEOUT
