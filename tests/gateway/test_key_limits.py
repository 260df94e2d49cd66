"""Limits of keys over real sockets: who is let in, what is settled, what the SDKs make of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import msgspec
import openai
import pytest

from api_keys import named
from gateway_fakes import (
    Call,
    Engine,
    Running,
    answer,
    chat,
    config,
    engines,
    events,
    eventually,
    run,
    running,
)
from glm_serving.gateway.accounts import MAX_TEAMS, OTHER_TEAM
from glm_serving.gateway.config import Auth

LOCKED = msgspec.structs.replace(config(), auth=Auth(keys_file="keys.json"))
Use = Callable[[Running, Engine], Awaitable[None]]


def with_keys(use: Use, script: Any = answer, **keys: dict[str, Any]) -> None:
    """Use a gateway with one flash engine and these keys; the key of each is its name."""

    async def scenario() -> None:
        async with engines(script) as [engine], running(LOCKED, flash=[engine.url]) as gateway:
            gateway.gateway.take_keys(named(**keys))
            await use(gateway, engine)

    run(scenario())


def spent(gateway: Running, key: str) -> int:
    """Tokens of a key that count now."""
    guard = gateway.gateway.guard
    return guard._quotas[key].tokens.used(gateway.gateway.clock())


def test_a_key_that_has_spent_its_requests_gets_429_and_others_do_not() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        for status in (200, 200, 429):
            got = await gateway.ask(chat(), x_api_key="alice")
            assert got.status == status
        assert got.error["code"] == "RequestLimitReached"
        assert 55 <= int(got.headers["retry-after"]) <= 61
        assert got.error["estimated_wait_seconds"] <= 61
        assert gateway.log()[-1]["key"] == "alice"
        assert (await gateway.ask(chat(), x_api_key="bob")).status == 200
        assert len(engine.calls) == 3

    with_keys(use, alice={"requestsPerMinute": 2}, bob={})


def test_new_limits_hold_for_what_was_already_spent() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 200
        gateway.gateway.take_keys(named(alice={"requestsPerMinute": 1}))
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 429
        gateway.gateway.take_keys(named(alice={"requestsPerMinute": 2}))
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 200

    with_keys(use, alice={"requestsPerMinute": 5})


def test_tokens_are_settled_on_what_the_engine_reports() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        body = chat(max_tokens=900)
        assert (await gateway.ask(body, x_api_key="alice")).status == 200
        assert spent(gateway, "alice") == 10
        assert (await gateway.ask(body, x_api_key="alice")).status == 200

    with_keys(use, alice={"tokensPerMinute": 1000})


def test_tokens_are_charged_while_a_request_runs_and_its_end_gives_them_back() -> None:
    finish = asyncio.Event()

    async def slow(call: Call) -> None:
        await finish.wait()
        await answer(call)

    async def use(gateway: Running, engine: Engine) -> None:
        client = await gateway.client()
        await client.request(chat(max_tokens=900), x_api_key="alice")
        await eventually(lambda: engine.calls, "the request runs")
        got = await gateway.ask(chat(max_tokens=900), x_api_key="alice")
        assert (got.status, got.error["code"]) == (429, "TokenLimitReached")
        finish.set()
        assert (await client.answer()).status == 200
        assert (await gateway.ask(chat(max_tokens=900), x_api_key="alice")).status == 200

    with_keys(use, slow, alice={"tokensPerMinute": 1000})


def test_a_client_that_leaves_early_pays_for_what_it_saw() -> None:
    async def endless(call: Call) -> None:
        await call.stream_head()
        for event in events(40, usage=False)[:40]:
            await call.chunk(event)
        await call.gone.wait()

    async def use(gateway: Running, engine: Engine) -> None:
        client = await gateway.client()
        await client.request(chat(stream=True, max_tokens=900), x_api_key="alice")
        await client.head()
        seen = b""
        while b"w38" not in seen:
            seen += await client.chunk() or b""
        client.abort()
        await gateway.at_rest()
        assert 30 <= spent(gateway, "alice") <= 60

    with_keys(use, endless, alice={"tokensPerMinute": 1000})


def test_an_error_of_the_engine_costs_a_request_and_no_tokens() -> None:
    async def bad(call: Call) -> None:
        await call.json(400, {"error": {"message": "no"}})

    async def use(gateway: Running, engine: Engine) -> None:
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 400
        assert spent(gateway, "alice") == 0
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 429

    with_keys(use, bad, alice={"tokensPerMinute": 1000, "requestsPerMinute": 1})


@pytest.mark.parametrize("leave", ["answer", "abort", "held"])
def test_a_place_in_flight_is_given_back_however_the_request_ends(leave: str) -> None:
    finish = asyncio.Event()

    async def slow(call: Call) -> None:
        await finish.wait()
        await answer(call)

    async def use(gateway: Running, engine: Engine) -> None:
        client = await gateway.client()
        headers = {"x_glm_tier": "flagship"} if leave == "held" else {}
        await client.request(chat(), x_api_key="alice", **headers)
        await eventually(lambda: gateway.gateway.running, "the request runs")
        got = await gateway.ask(chat(), x_api_key="alice")
        assert (got.status, got.error["code"]) == (429, "InFlightLimitReached")
        if leave == "answer":
            finish.set()
            assert (await client.answer()).status == 200
        else:
            client.abort()
        await gateway.at_rest()
        finish.set()
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 200

    with_keys(use, slow, alice={"maxInFlight": 1})


def test_a_key_that_is_revoked_while_its_request_runs_leaves_no_count_behind() -> None:
    finish = asyncio.Event()

    async def slow(call: Call) -> None:
        await finish.wait()
        await answer(call)

    async def use(gateway: Running, engine: Engine) -> None:
        client = await gateway.client()
        await client.request(chat(), x_api_key="alice")
        await eventually(lambda: engine.calls, "the request runs")
        gateway.gateway.take_keys(named(bob={}))
        finish.set()
        assert (await client.answer()).status == 200
        gateway.gateway.take_keys(named(alice={"maxInFlight": 1}))
        assert (await gateway.ask(chat(), x_api_key="alice")).status == 200

    with_keys(use, slow, alice={"maxInFlight": 1})


def test_a_key_holds_at_most_its_share_of_a_queue_where_there_are_several() -> None:
    async def scenario() -> None:
        limits = msgspec.structs.replace(LOCKED.limits, max_held_requests=4)
        async with running(msgspec.structs.replace(LOCKED, limits=limits)) as gateway:
            gateway.gateway.take_keys(named(alice={}, bob={}))
            waiting = [await gateway.client() for _ in range(2)]
            for client in waiting:
                await client.request(chat(), x_api_key="alice")
            await eventually(lambda: gateway.gateway.held == 2, "both wait")
            got = await gateway.ask(chat(), x_api_key="alice")
            assert (got.status, got.error["code"]) == (429, "HoldQueueFull")
            client = await gateway.client()
            await client.request(chat(), x_api_key="bob")
            await eventually(lambda: gateway.gateway.held == 3, "the other key waits")
            await gateway.close()

    run(scenario())


def test_metrics_tell_the_first_teams_apart_and_sum_up_the_rest() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        for n in range(MAX_TEAMS + 2):
            gateway.gateway.take_keys(named(alice={"team": f"team-{n}"}))
            assert (await gateway.ask(chat(), x_api_key="alice")).status == 200

        def tokens(team: str) -> float:
            labels = {"tier": "flash", "kind": "completion", "source": "reported", "team": team}
            return gateway.metric("glm_gateway_tokens_total", **labels)

        assert tokens("team-0") == tokens(f"team-{MAX_TEAMS - 1}") == 3
        assert tokens(OTHER_TEAM) == 6
        assert gateway.log()[-1]["team"] == f"team-{MAX_TEAMS + 1}"

    with_keys(use, alice={})


USER: list[Any] = [{"role": "user", "content": "hello"}]


def test_the_openai_package_raises_its_typed_exceptions() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        async def ask(key: str) -> object:
            url = f"http://127.0.0.1:{gateway.port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
                return await client.chat.completions.create(model="glm", messages=USER)

        await ask("alice")
        with pytest.raises(openai.RateLimitError) as limited:
            await ask("alice")
        assert limited.value.code == "RequestLimitReached"
        with pytest.raises(openai.AuthenticationError) as unknown:
            await ask("mallory")
        assert unknown.value.code == "InvalidAPIKey"

    with_keys(use, alice={"requestsPerMinute": 1})


def test_the_anthropic_package_raises_its_typed_exceptions() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        async def ask(key: str) -> object:
            url = f"http://127.0.0.1:{gateway.port}"
            async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client:
                return await client.messages.create(model="glm", messages=USER, max_tokens=5)

        await ask("alice")
        with pytest.raises(anthropic.RateLimitError):
            await ask("alice")
        with pytest.raises(anthropic.AuthenticationError) as unknown:
            await ask("mallory")
        body = unknown.value.body
        assert isinstance(body, dict)
        assert body["error"]["type"] == "authentication_error"

    async def message(call: Call) -> None:
        usage = {"input_tokens": 7, "output_tokens": 3}
        text = [{"type": "text", "text": "hi"}]
        reply = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": text}
        assert json.loads(call.request.body)["model"] == "glm"
        await call.json(200, reply | {"usage": usage, "stop_reason": "end_turn"})

    with_keys(use, message, alice={"requestsPerMinute": 1})


FLASH_ONLY = {"tiers": ["flash"]}


@pytest.mark.parametrize(
    ("body", "headers", "status", "tier"),
    [
        (chat(), {}, 200, "flash"),
        (chat(tools=[{"type": "function", "function": {"name": "f"}}]), {}, 200, "flash"),
        (chat(model="glm-4.6v-flash"), {}, 200, "flash"),
        (chat(model="glm-4.6v"), {}, 403, ""),
        (chat(), {"x_glm_tier": "flagship"}, 403, ""),
    ],
)
def test_a_key_is_kept_to_its_tiers(
    body: bytes, headers: dict[str, str], status: int, tier: str
) -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        got = await gateway.ask(body, x_api_key="alice", **headers)
        assert got.status == status
        assert got.headers.get("x-glm-tier", "") == tier
        if status == 403:
            assert got.error["code"] == "TierNotPermitted"
            assert "retry-after" not in got.headers

    with_keys(use, alice=FLASH_ONLY)


def test_a_tier_that_is_not_permitted_raises_permission_denied_in_both_packages() -> None:
    async def use(gateway: Running, engine: Engine) -> None:
        url = f"http://127.0.0.1:{gateway.port}"
        by_openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="alice", max_retries=0)
        by_anthropic = anthropic.AsyncAnthropic(base_url=url, api_key="alice", max_retries=0)
        async with by_openai, by_anthropic:
            with pytest.raises(openai.PermissionDeniedError):
                await by_openai.chat.completions.create(model="glm-4.6v", messages=USER)
            with pytest.raises(anthropic.PermissionDeniedError):
                await by_anthropic.messages.create(model="glm-4.6v", messages=USER, max_tokens=5)

    with_keys(use, alice=FLASH_ONLY)
