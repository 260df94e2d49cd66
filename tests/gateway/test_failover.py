"""What fails before its first byte goes elsewhere; what fails after it is visibly broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from gateway_fakes import (
    Call,
    Engine,
    answer,
    chat,
    engines,
    events,
    eventually,
    run,
    running,
)
from glm_serving.gateway import attempt, upstream
from glm_serving.gateway.upstream import UpstreamConnection
from glm_serving.gateway.upstreams import Replica


async def die(call: Call) -> None:
    call.writer.transport.abort()


async def unavailable(call: Call) -> None:
    await call.json(503, {"error": "draining"})


@contextlib.contextmanager
def unreachable() -> Iterator[str]:
    """The address of an engine that is gone; nobody else gets its port meanwhile."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{kept.getsockname()[1]}"


def test_a_refused_connection_goes_to_another_replica() -> None:
    async def scenario() -> None:
        with unreachable() as gone:
            async with engines(answer) as [engine], running(flash=[gone, engine.url]) as gateway:
                for _ in range(4):
                    got = await gateway.ask(chat())
                    assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-1")
                assert (
                    gateway.metric("glm_gateway_retries_total", tier="flash", cause="connect") >= 1
                )

    run(scenario())


@pytest.mark.parametrize(("script", "cause"), [(die, "lost"), (unavailable, "status")])
def test_a_replica_that_fails_before_its_first_byte_is_replaced(script: object, cause: str) -> None:
    async def scenario() -> None:
        async with (
            engines(script, answer) as [bad, good],  # type: ignore[arg-type]
            running(flash=[bad.url, good.url]) as gateway,
        ):
            got = await gateway.ask(chat(), x_request_id="req-1")
            assert (got.status, got.headers["x-glm-replica"]) == (200, "flash-1")
            assert got.headers["x-request-id"] == "req-1"
            ids = [e.calls[0].request.headers["x-request-id"] for e in (bad, good)]
            assert ids == ["req-1-1", "req-1-2"]
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause=cause) == 1
            assert gateway.log()[-1]["attempts"] == 2

    run(scenario())


def test_a_request_that_two_replicas_died_of_is_not_sent_a_third_time() -> None:
    async def scenario() -> None:
        async with (
            engines(die, die, die) as started,
            running(flash=[engine.url for engine in started]) as gateway,
        ):
            got = await gateway.ask(chat())
            assert (got.status, got.error["code"]) == (500, "RequestKillsEngine")
            assert got.headers["x-should-retry"] == "false"
            assert sum(len(engine.calls) for engine in started) == 2

    run(scenario())


def test_kept_connections_do_not_let_one_request_kill_more_than_two_replicas() -> None:
    async def fatal(call: Call) -> None:
        if b"poison" in call.request.body:
            (own,) = (engine for engine in started if call in engine.calls)
            await own.stop()
        else:
            await answer(call)

    started: list[Engine] = []

    async def scenario() -> None:
        async with engines(fatal, fatal, fatal, fatal) as found:
            started.extend(found)
            async with running(flash=[engine.url for engine in started]) as gateway:
                await asyncio.gather(*(gateway.ask(chat("warm")) for _ in range(8)))
                replicas = gateway.gateway.pools["flash"].tier.replicas.values()
                assert all(replica.idle for replica in replicas)
                got = await gateway.ask(chat("poison"))
                assert (got.status, got.error["code"]) == (500, "RequestKillsEngine")
                assert sum(b"poison" in c.request.body for e in started for c in e.calls) == 2

    run(scenario())


def test_a_replica_lost_on_a_kept_connection_spends_the_budget_of_resends() -> None:
    async def fatal(call: Call) -> None:
        if b"poison" in call.request.body:
            await bad[0].stop()
        else:
            await answer(call)

    bad: list[Engine] = []

    async def scenario() -> None:
        async with engines(fatal, answer) as [one, other]:
            bad.append(one)
            async with running(flash=[one.url]) as gateway:
                assert (await gateway.ask(chat("warm"))).status == 200
                gateway.endpoints(flash=[one.url, other.url])
                while gateway.gateway.retry():
                    pass
                gateway.gateway.pools["flash"].tier.replicas["flash-1"].begin()
                got = await gateway.ask(chat("poison"))
                gateway.gateway.pools["flash"].tier.replicas["flash-1"].end()
                assert (got.status, got.error["code"]) == (502, "UpstreamFailed")
                assert not other.calls

    run(scenario())


def test_a_replica_that_comes_back_gets_the_request_that_waits_for_it() -> None:
    async def scenario() -> None:
        first = await Engine().start()
        async with running(flash=[first.url]) as gateway:
            await first.stop()
            asking = asyncio.create_task(gateway.ask(chat()))
            await eventually(lambda: gateway.gateway.held == 1, "the request is held")
            again = await Engine().start(first.port)
            assert (await asking).status == 200
            assert gateway.gateway.report().tiers["flash"].arrivals == 1
            await again.stop()

    run(scenario())


def test_a_connection_that_went_stale_is_no_failure() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            assert (await gateway.ask(chat())).status == 200
            replica = gateway.gateway.pools["flash"].tier.replicas["flash-0"]
            stale = replica.idle[0]
            # The engine closes the connection just when the gateway picks it.
            engine.close_idle()
            await eventually(lambda: not replica.idle, "the close is seen")
            replica.idle.append(stale)
            assert (await gateway.ask(chat())).status == 200

    run(scenario())


def test_a_reset_of_a_reused_connection_is_sent_again_to_the_same_replica() -> None:
    async def script(call: Call) -> None:
        if len(engine_calls) == 1:
            engine_calls.append(call)
            call.writer.transport.abort()
        else:
            engine_calls.append(call)
            await answer(call)

    engine_calls: list[Call] = []

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            assert (await gateway.ask(chat())).status == 200
            assert (await gateway.ask(chat())).status == 200
            assert engine.connections == 2
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause="stale") == 1
            assert gateway.metric("glm_gateway_retries_total", tier="flash", cause="lost") == 0

    run(scenario())


def test_an_error_of_the_engine_is_passed_on_and_not_retried() -> None:
    async def refuse(call: Call) -> None:
        await call.json(400, {"error": {"message": "too long", "code": 400}}, "x-internal: 1\r\n")

    async def scenario() -> None:
        async with (
            engines(refuse, refuse) as [one, two],
            running(flash=[one.url, two.url]) as gateway,
        ):
            got = await gateway.ask(chat())
            assert got.status == 400
            assert json.loads(got.body)["error"]["message"] == "too long"
            assert "x-internal" not in got.headers
            assert len(one.calls) + len(two.calls) == 1

    run(scenario())


def test_a_stream_that_breaks_ends_with_an_error_event_and_no_clean_end() -> None:
    parts = events(3)

    async def script(call: Call) -> None:
        await call.stream_head()
        await call.chunk(parts[0] + parts[1] + b'data: {"id": "torn')
        call.writer.close()

    async def scenario() -> None:
        async with (
            engines(script, answer) as [engine, other],
            running(flash=[engine.url, other.url]) as gateway,
        ):
            got = await gateway.ask(chat(stream=True))
            assert not got.complete
            assert got.body.startswith(parts[0] + parts[1] + b"data: ")
            error = json.loads(got.body[len(parts[0] + parts[1]) + 6 :])["error"]
            assert error["code"] == "StreamBroken"
            assert not other.calls
            assert gateway.log()[-1]["error"] == "StreamBroken"

    run(scenario())


def test_an_unary_answer_that_breaks_is_cut_short() -> None:
    async def script(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        call.writer.close()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat())
            assert (got.status, got.complete) == (200, False)
            assert len(engine.calls) == 1

    run(scenario())


def test_a_response_that_is_no_http_counts_as_lost() -> None:
    async def script(call: Call) -> None:
        await call.send(b"SSH-2.0-OpenSSH\r\n\r\n")

    async def scenario() -> None:
        async with (
            engines(script, answer) as [bad, good],
            running(flash=[bad.url, good.url]) as gateway,
        ):
            assert (await gateway.ask(chat())).headers["x-glm-replica"] == "flash-1"

    run(scenario())


def test_resends_are_bounded_by_a_budget() -> None:
    async def scenario() -> None:
        async with (
            engines(unavailable, answer) as [bad, good],
            running(flash=[bad.url, good.url]) as gateway,
        ):
            while gateway.gateway.retry():
                pass
            assert (await gateway.ask(chat())).error["code"] == "UpstreamFailed"

    run(scenario())


def test_requests_go_to_the_replica_with_the_least_in_flight() -> None:
    hold = asyncio.Event()

    async def slow(call: Call) -> None:
        await hold.wait()
        await answer(call)

    async def scenario() -> None:
        async with (
            engines(slow, slow, slow) as started,
            running(flash=[engine.url for engine in started]) as gateway,
        ):
            asking = [asyncio.create_task(gateway.ask(chat())) for _ in range(9)]
            await eventually(
                lambda: sum(len(e.calls) for e in started) == 9, "all requests are at engines"
            )
            assert [len(engine.calls) for engine in started] == [3, 3, 3]
            hold.set()
            assert {got.status for got in await asyncio.gather(*asking)} == {200}

    run(scenario())


@pytest.mark.parametrize("reached", [True, False])
def test_a_client_that_leaves_while_its_replica_is_tried_again_blocks_nobody(
    reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = asyncio.Event()

    async def slow_connect(replica: Replica, timeout_seconds: float) -> UpstreamConnection:
        await go_on.wait()
        if not reached:
            raise ConnectionRefusedError
        return await upstream.connect(replica, timeout_seconds)

    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            replica = gateway.gateway.pools["flash"].tier.replicas["flash-0"]
            gateway.gateway.pools.replica_failed(replica)
            await eventually(lambda: replica.usable(gateway.gateway.clock()), "its rest is over")
            monkeypatch.setattr(attempt, "connect", slow_connect)
            client = await gateway.client()
            await client.request(chat())
            await eventually(lambda: replica.in_flight == 1, "the replica is tried")
            client.abort()
            await eventually(lambda: replica.in_flight == 0, "the client left")
            go_on.set()
            monkeypatch.undo()
            assert (await gateway.ask(chat())).status == 200

    run(scenario())
