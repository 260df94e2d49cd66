"""The second port, and the shape of `/state` that the operator relies on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway_fakes import (
    DATA,
    Call,
    Client,
    PNG_640x480,
    Running,
    answer,
    chat,
    config,
    engines,
    eventually,
    run,
    running,
    shorter,
)
from glm_serving.gateway import modellist
from glm_serving.gateway.admin import AdminConnection


@contextlib.asynccontextmanager
async def second_port(gateway: Running) -> AsyncIterator[Client]:
    """A client of the gateway's second port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: AdminConnection(gateway.admin), "127.0.0.1", 0)
    client = await Client.open(server.sockets[0].getsockname()[1])
    try:
        yield client
    finally:
        client.abort()
        server.close()
        await server.wait_closed()


def shape(value: Any) -> Any:
    """Keys and kinds of a JSON value."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def contains(found: Any, agreed: Any) -> bool:
    """Whether every agreed key is there with its kind; keys may be added."""
    if isinstance(agreed, dict):
        return all(key in found and contains(found[key], agreed[key]) for key in agreed)
    return bool(found == agreed)


def test_state_has_the_agreed_shape() -> None:
    fixture = json.loads((DATA / "gateway-state.json").read_text())

    async def scenario() -> None:
        async with (
            engines(answer, answer) as [one, two],
            running(flagship=[one.url], flash=[two.url]) as gateway,
        ):
            page = gateway.admin.page(b"GET", b"/state")
            assert page.content_type == b"application/json"
            found = json.loads(page.body)
            for report in (found, fixture):
                for tier in report["tiers"].values():
                    (tier["replicas"],) = tier["replicas"].values()
            assert contains(shape(found), shape(fixture))
            assert found["pod"] == "gateway-test"
            assert found["generation"] == 3

    run(scenario())


def test_state_tells_what_waits_and_what_a_request_would_meet() -> None:
    see = {"type": "image_url", "image_url": {"url": PNG_640x480}}
    question = [{"role": "user", "content": [{"type": "text", "text": "x" * 4000}, see]}]

    async def broken(call: Call) -> None:
        call.writer.transport.abort()

    async def scenario() -> None:
        async with (
            engines(answer, broken) as [well, ill],
            running(timings=shorter(back_off=60, max_back_off=60), flagship=[well.url]) as gateway,
        ):
            await gateway.ask(chat(model="glm-4.6v"))
            client = await gateway.client()
            await client.request(chat(model="glm-4.6v-flash", messages=question))
            await eventually(lambda: gateway.gateway.held, "one is held")
            report = gateway.gateway.report()
            flagship, flash = report.tiers["flagship"], report.tiers["flash"]
            assert (flagship.state, flash.state) == ("Serving", "Asleep")
            assert (flagship.completion_tokens, flagship.arrived_image_tokens) == (3, 0)
            assert (flash.held_work.images, flash.arrived_image_tokens) == (1, 391)
            assert gateway.metric("glm_gateway_held_tokens", tier="flash") == flash.arrived_tokens
            assert gateway.metric("glm_gateway_oldest_held_seconds", tier="flash") > 0
            assert flash.held_work.tokens == flash.arrived_tokens > 391
            assert flash.held_work.bytes == report.body_bytes > 4000
            assert report.limits.max_held_requests == 512
            gateway.endpoints(flagship=[well.url], flash=[ill.url])
            await eventually(
                lambda: gateway.gateway.report().tiers["flash"].state == "Resting", "it rests"
            )
            assert gateway.gateway.report().tiers["flash"].replicas["flash-0"].resting
            open_ = {"tier": "flash", "state": "open"}
            assert gateway.metric("glm_gateway_breakers", **open_) == 1
            assert gateway.metric("glm_gateway_breakers", tier="flagship", state="closed") == 1
            client.abort()

    run(scenario())


def test_the_pages_over_a_kept_alive_connection() -> None:
    async def scenario() -> None:
        async with running() as gateway, second_port(gateway) as client:
            statuses = {}
            for path in ("/healthz", "/readyz", "/state", "/metrics", "/metrics?x=1", "/v1/models"):
                await client.send(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                statuses[path] = (await client.answer()).status
            await client.send(b"POST /state HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
            statuses["POST"] = (await client.answer()).status
            await client.send(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.ended()
            assert statuses == {
                "/healthz": 200,
                "/readyz": 200,
                "/state": 200,
                "/metrics": 200,
                "/metrics?x=1": 200,
                "/v1/models": 404,
                "POST": 405,
            }

    run(scenario())


@pytest.mark.parametrize("data", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"a" * 40000])
def test_nonsense_on_the_second_port_ends_the_connection(data: bytes) -> None:
    async def scenario() -> None:
        async with running() as gateway, second_port(gateway) as client:
            await client.send(data)
            assert await client.ended()

    run(scenario())


def test_metrics_are_well_formed_and_bounded() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat())
            for number in range(5):
                await gateway.ask(chat(model=f"unknown-{number}"), x_glm_session=str(number))
                await gateway.ask(b"{}", f"/v1/unknown/{number}")
            text = gateway.admin.page(b"GET", b"/metrics").body.decode()
            families = {f.name: f for f in text_string_to_metric_families(text)}
            requests = families["glm_gateway_requests"].samples
            labels = ("tier", "task", "reason", "status")
            assert {tuple(s.labels[name] for name in labels) for s in requests if s.value} == {
                ("flash", "none", "TextOnly", "200"),
                ("none", "none", "ModelNotFound", "404"),
                ("none", "none", "PathNotFound", "404"),
            }
            assert gateway.metric("glm_gateway_first_token_seconds_count", tier="flash") == 1
            assert gateway.metric("glm_gateway_decision_seconds_count") == 6
            assert gateway.metric("glm_gateway_bytes_total", direction="received") > 0
            assert gateway.metric("glm_gateway_bytes_total", direction="sent") > 0
            assert gateway.metric("glm_gateway_config_generation") == 3
            assert gateway.metric("glm_gateway_routable_replicas", tier="flash") == 1

    run(scenario())


def test_in_flight_is_seen_while_a_request_runs() -> None:
    finish = asyncio.Event()

    async def slow(call: object) -> None:
        await finish.wait()
        await answer(call)  # type: ignore[arg-type]

    async def scenario() -> None:
        async with engines(slow) as [engine], running(flash=[engine.url]) as gateway:
            asking = asyncio.create_task(gateway.ask(chat()))
            await eventually(lambda: engine.calls, "the request runs")
            tier = gateway.gateway.report().tiers["flash"]
            assert (tier.in_flight, tier.replicas["flash-0"].in_flight) == (1, 1)
            assert gateway.metric("glm_gateway_in_flight", tier="flash") == 1
            finish.set()
            assert (await asking).status == 200

    run(scenario())


def test_models_are_listed_and_wake_nobody() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.send(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
            listed = json.loads((await client.answer()).body)["data"]
            assert {m["id"]: (m["tier"], m["state"]) for m in listed} == {
                "glm": ("auto", "serving"),
                "glm-4.6v": ("flagship", "asleep"),
                "glm-4.6v-flash": ("flash", "serving"),
                "gpt-4o": ("auto", "serving"),
                "house-vision": ("flagship", "asleep"),
            }
            await client.send(b"GET /v1/models/glm-4.6v HTTP/1.1\r\nhost: a\r\n\r\n")
            one = json.loads((await client.answer()).body)
            assert (one["max_model_len"], one["modalities"]) == (131072, ["text", "image"])
            assert {t.arrivals for t in gateway.gateway.report().tiers.values()} == {0}

    run(scenario())


def test_a_model_name_with_a_slash_is_found() -> None:
    base = config(aliases={"org/model": "auto"})
    for path in (b"org/model", b"org%2Fmodel"):
        assert json.loads(modellist.one(base, frozenset(), path))["id"] == "org/model"
