"""Requests that replicas die of: they kill two, and their bodies are refused for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_fakes import Call, answer, chat, engines, events, eventually, run, running
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.failover import ENGINE_DEAD, Cause, Tries, Verdict, engine_died
from glm_serving.gateway.limits import MAX_SENDS
from glm_serving.gateway.poison import MAX_BODIES, REFUSED_SECONDS, RefusedBodies

DEAD = {"error": {"message": ENGINE_DEAD.decode(), "type": "InternalServerError", "code": 500}}
EVENT = b"data: " + json.dumps(DEAD).encode() + b"\n\n"


async def die_of_poison(call: Call) -> None:
    if b"poison" in call.request.body:
        call.writer.transport.abort()
    else:
        await answer(call)


async def dead_engine(call: Call) -> None:
    """As vLLM's API server answers when the engine behind it died."""
    if json.loads(call.request.body).get("stream"):
        await call.stream_head()
        await call.chunk(EVENT)
        await call.chunk(b"data: [DONE]\n\n")
        await call.end()
    else:
        await call.json(500, DEAD)


def test_a_body_that_two_replicas_died_of_is_refused_before_it_reaches_a_third() -> None:
    async def scenario() -> None:
        scripts = [die_of_poison] * 3
        async with (
            engines(*scripts) as started,
            running(flash=[engine.url for engine in started]) as gateway,
        ):
            for _ in range(3):
                got = await gateway.ask(chat("poison"))
                assert (got.status, got.error["code"]) == (500, "RequestKillsEngine")
                assert got.headers["x-should-retry"] == "false"
                assert "retry-after" not in got.headers
            assert sum(b"poison" in c.request.body for e in started for c in e.calls) == 2
            assert (await gateway.ask(chat("harmless"))).status == 200
            assert gateway.log()[-2]["error"] == "RequestKillsEngine"

    run(scenario())


def test_a_copy_that_waits_is_refused_when_its_turn_comes() -> None:
    async def scenario() -> None:
        async with engines(die_of_poison, die_of_poison, answer) as started, running() as gateway:
            copies = [asyncio.create_task(gateway.ask(chat("poison"))) for _ in range(2)]
            await eventually(lambda: gateway.gateway.held == 2, "both copies are held")
            body = chat("poison")
            gateway.gateway.refused_bodies.add(body, gateway.gateway.clock())
            gateway.endpoints(flash=[engine.url for engine in started])
            for got in await asyncio.gather(*copies):
                assert got.error["code"] == "RequestKillsEngine"
            assert not any(engine.calls for engine in started)

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_tells_of_a_dead_engine_goes_to_another_replica(stream: bool) -> None:
    async def scenario() -> None:
        async with (
            engines(dead_engine, answer) as [bad, good],
            running(flash=[bad.url, good.url]) as gateway,
        ):
            got = await gateway.ask(chat(stream=stream))
            assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-1")
            assert len(bad.calls) == 1
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause="lost") == 1

    run(scenario())


@pytest.mark.parametrize("stream", [True, False])
def test_a_request_that_engines_die_of_is_found_behind_their_living_servers(stream: bool) -> None:
    async def scenario() -> None:
        async with (
            engines(dead_engine, dead_engine, answer) as started,
            running(flash=[engine.url for engine in started]) as gateway,
        ):
            got = await gateway.ask(chat(stream=stream))
            assert (got.status, got.error["code"]) == (500, "RequestKillsEngine")
            assert not started[2].calls

    run(scenario())


def test_another_error_of_the_engine_passes_and_is_not_tried_again() -> None:
    async def script(call: Call) -> None:
        await call.json(500, {"error": {"message": "no such thing", "code": 500}})

    async def scenario() -> None:
        async with (
            engines(script, answer) as [bad, good],
            running(flash=[bad.url, good.url]) as gateway,
        ):
            got = await gateway.ask(chat())
            assert (got.status, got.error["message"]) == (500, "no such thing")
            assert not good.calls

    run(scenario())


def test_a_stream_that_waits_for_its_first_token_goes_to_another_replica() -> None:
    async def script(call: Call) -> None:
        await call.stream_head()
        call.writer.transport.abort()

    async def scenario() -> None:
        async with (
            engines(script, answer) as [bad, good],
            running(flash=[bad.url, good.url]) as gateway,
        ):
            got = await gateway.ask(chat(stream=True))
            assert (got.status, got.complete, got.body) == (200, True, b"".join(events(3)))
            assert len(bad.calls) == 1

    run(scenario())


async def dies_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(1000)
    writer.transport.abort()


def test_a_large_body_that_replicas_did_not_receive_has_killed_none() -> None:
    image = {"url": "data:image/png;base64," + "A" * 20_000_000}
    content = [{"type": "image_url", "image_url": image}]
    body = chat(messages=[{"role": "user", "content": content}])

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as stack:
            urls = []
            for _ in range(3):
                server = await asyncio.start_server(dies_reading, "127.0.0.1", 0)
                stack.callback(server.close)
                urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            good, *_ = await stack.enter_async_context(engines(answer))
            gateway = await stack.enter_async_context(running(flash=[*urls, good.url]))
            gateway.gateway.pools["flash"].tier.replicas["flash-3"].picked = 2**40
            got = await gateway.ask(body)
            assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-3")
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause="unsent") == 3

    run(scenario())


def test_an_answer_without_a_body_is_complete() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 429 Busy\r\ncontent-length: 0\r\nretry-after: 3\r\n\r\n")

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat())
            assert (got.status, got.complete, got.body) == (429, True, b"")
            assert got.headers["retry-after"] == "3"

    run(scenario())


def test_a_replica_that_is_on_its_way_out_was_not_killed_by_its_requests() -> None:
    tries = Tries()
    for _ in range(3):
        assert tries.failed("a", Cause.LOST, leaving=True) is Verdict.AGAIN
    assert tries.failed("b", Cause.LOST, leaving=False) is Verdict.AGAIN
    assert tries.failed("c", Cause.LOST, leaving=False) is Verdict.KILLS_ENGINE


@pytest.mark.parametrize(
    ("causes", "verdict"),
    [
        ([Cause.CONNECT] * 20, Verdict.AGAIN),
        ([Cause.LOST], Verdict.AGAIN),
        ([Cause.UNSENT] * 5, Verdict.AGAIN),
        ([Cause.LOST, Cause.CONNECT, Cause.STATUS], Verdict.AGAIN),
        ([Cause.LOST, Cause.LOST], Verdict.KILLS_ENGINE),
        ([Cause.TIMEOUT], Verdict.AGAIN),
        ([Cause.TIMEOUT, Cause.TIMEOUT], Verdict.SPENT),
        ([Cause.TIMEOUT, Cause.LOST], Verdict.AGAIN),
    ],
)
def test_what_becomes_of_a_request_after_failures(causes: list[Cause], verdict: Verdict) -> None:
    tries = Tries()
    found = [tries.failed(f"r{n}", cause, leaving=False) for n, cause in enumerate(causes)]
    assert found[-1] is verdict
    assert all(one is Verdict.AGAIN for one in found[:-1])


def test_a_request_is_not_sent_more_often_than_the_limit() -> None:
    tries = Tries()
    tries.sends = MAX_SENDS
    assert tries.failed("a", Cause.STATUS, leaving=False) is Verdict.SPENT


@pytest.mark.parametrize(
    ("status", "streamed", "data", "died"),
    [
        (500, False, json.dumps(DEAD).encode(), True),
        (200, True, EVENT, True),
        (200, True, b"event: error\n" + EVENT, True),
        (200, True, b"", True),
        (200, False, b"", False),
        (200, False, json.dumps(DEAD).encode(), False),
        (200, True, b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n', False),
        (200, True, b"x" * 2000 + EVENT, False),
    ],
)
def test_a_dead_engine_is_told_by_what_vllm_says(
    status: int, streamed: bool, data: bytes, died: bool
) -> None:
    assert engine_died(status, streamed, data) is died


def test_a_body_is_refused_for_ten_minutes() -> None:
    bodies = RefusedBodies()
    bodies.add(b"poison", 100.0)
    with pytest.raises(Refusal, match="600 s more"):
        bodies.check(b"poison", 100.0)
    bodies.check(b"p0ison", 100.0)
    bodies.check(bytearray(b"poison!"), 100.0)
    bodies.check(b"poison", 100.0 + REFUSED_SECONDS)


@given(st.integers(1, 3 * MAX_BODIES))
def test_the_table_of_refused_bodies_is_bounded_and_keeps_the_latest(count: int) -> None:
    bodies = RefusedBodies()
    for n in range(count):
        bodies.add(b"%d" % n, float(n))
    with pytest.raises(Refusal):
        bodies.check(b"%d" % (count - 1), float(count))
    bodies.check(b"%d" % count, float(count))
    if count > MAX_BODIES:
        bodies.check(b"0", float(count))
