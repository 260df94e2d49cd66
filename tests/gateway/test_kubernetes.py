"""Configuration and replicas from the API server: watched, and kept while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fake_api_server import FakeApiServer
from gateway_fakes import (
    DATA,
    FAST,
    Client,
    Engine,
    Running,
    answer,
    chat,
    engines,
    eventually,
    run,
)
from glm_serving.gateway import endpoints, watch
from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.admin import Admin
from glm_serving.gateway.config import Address
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.kube import ApiServer
from glm_serving.gateway.kubesource import KubernetesSource
from glm_serving.gateway.server import Options, Server

EXAMPLE = json.loads((DATA / "gateway-config.json").read_text())
LOCAL = Options(host="127.0.0.1", port=0, admin_port=0, shutdown_delay=0, shutdown_timeout=1)


class HoldsSlicesBack(FakeApiServer):
    """Answers nothing about slices before `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def _answer(self, resource: str, *rest: Any) -> None:
        if resource == "endpointslices":
            await self.go_on.wait()
        await super()._answer(resource, *rest)


@contextlib.asynccontextmanager
async def cluster(
    tmp_path: Path, fake: FakeApiServer | None = None
) -> AsyncIterator[tuple[FakeApiServer, KubernetesSource]]:
    """An API server that has the configuration, and a source that reads it."""
    (tmp_path / "token").write_text("secret\n")
    api = await (fake or FakeApiServer()).start()
    server = ApiServer("127.0.0.1", api.port, False, tmp_path)
    source = KubernetesSource(server, "ml", "vision-gateway", random=lambda: 0.1)
    try:
        yield api, source
    finally:
        await api.stop()


@contextlib.asynccontextmanager
async def serving(source: KubernetesSource) -> AsyncIterator[Running]:
    lines: list[dict[str, object]] = []
    server = Server(source, LOCAL, FAST, AccessLog(lines.append))
    await server.start()
    admin = Admin(server.gateway, source.not_ready)
    one = Running(server.gateway, server.port, admin, lines)
    try:
        yield one
    finally:
        for client in one.clients:
            client.abort()
        await server.stop()


def place(engine: Engine) -> tuple[str, int]:
    return "127.0.0.1", engine.port


def test_a_pod_that_becomes_ready_releases_a_held_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source), engines(answer) as [engine]:
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source) as gateway:
                await eventually(lambda: api.watching("endpointslices"), "slices are watched")
                asking = asyncio.create_task(gateway.ask(chat(model="glm-4.6v-flash")))
                await eventually(lambda: gateway.gateway.held == 1, "the request is held")
                api.put_slice("s1", "vision-flash", {}, **{"vision-flash-1-0": place(engine)})
                api.put_slice("s1", "vision-flash", {"vision-flash-1-0": place(engine)})
                got = await asking
                assert got.status == 200
                assert got.headers["x-glm-replica"] == "vision-flash-1-0"

    run(scenario())


def test_only_the_named_config_map_and_the_tiers_services_are_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source):
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source):
                await eventually(lambda: api.watching("endpointslices"), "slices are watched")
        asked = {
            (path, query.get("fieldSelector", query.get("labelSelector", [""]))[0])
            for path, query, _ in api.requests
        }
        assert asked == {
            ("/api/v1/namespaces/ml/configmaps", "metadata.name=vision-gateway"),
            (
                "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices",
                "kubernetes.io/service-name in"
                " (vision-flagship,vision-flash,vision-gateway,vision-text)",
            ),
        }
        assert {headers["authorization"] for _, _, headers in api.requests} == {"Bearer secret"}

    run(scenario())


def test_a_changed_config_map_is_applied(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source):
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source) as gateway:
                assert gateway.gateway.report().generation == 3
                await eventually(lambda: api.watching("configmaps"), "the config is watched")
                api.put_config("vision-gateway", json.dumps(EXAMPLE | {"generation": 4}))
                await eventually(lambda: gateway.gateway.report().generation == 4, "generation 4")

    run(scenario())


def test_a_bad_config_map_leaves_the_last_good_one_in_use(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source):
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source) as gateway:
                await eventually(lambda: api.watching("configmaps"), "the config is watched")
                api.put_config("vision-gateway", json.dumps(EXAMPLE | {"version": 9}))
                await eventually(
                    lambda: gateway.metric("glm_gateway_config_errors_total"), "an error is counted"
                )
                assert gateway.gateway.report().generation == 3

    run(scenario())


def test_requests_are_served_while_the_api_server_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(watch, "LONGEST_PAUSE", 0.05)

    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source), engines(answer, answer) as [one, two]:
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            api.put_slice("s1", "vision-flash", {"a": place(one)})
            async with serving(source) as gateway:
                assert (await gateway.ask(chat(model="glm-4.6v-flash"))).status == 200
                await api.stop()
                await eventually(
                    lambda: gateway.metric(
                        "glm_gateway_watch_errors_total", resource="endpointslices"
                    ),
                    "the loss is noticed",
                )
                assert (await gateway.ask(chat(model="glm-4.6v-flash"))).headers[
                    "x-glm-replica"
                ] == "a"
                await api.start()
                api.put_slice("s1", "vision-flash", {"b": place(two)})
                flash = gateway.gateway.pools["flash"].tier
                await eventually(lambda: list(flash.replicas) == ["b"], "the change is seen")
                assert (await gateway.ask(chat(model="glm-4.6v-flash"))).headers[
                    "x-glm-replica"
                ] == "b"

    run(scenario())


def test_a_watch_that_is_too_old_is_listed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "FIRST_PAUSE", 0.01)

    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source), engines(answer) as [engine]:
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source) as gateway:
                await eventually(lambda: api.watching("endpointslices"), "slices are watched")
                api.expire("endpointslices")
                await eventually(lambda: not api.watching("endpointslices"), "the watch ended")
                api.put_slice("s1", "vision-flash", {"a": place(engine)})
                assert (await gateway.ask(chat(model="glm-4.6v-flash"))).headers[
                    "x-glm-replica"
                ] == "a"

    run(scenario())


def test_not_ready_before_the_endpoints_are_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = HoldsSlicesBack()
        async with cluster(tmp_path, slow) as (api, source):
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            async with serving(source) as gateway:
                await eventually(
                    lambda: any("endpointslices" in path for path, _, _ in api.requests), "asked"
                )
                page = gateway.admin.page(b"GET", b"/readyz")
                assert (page.status, page.body) == (503, b"endpoints are not listed yet\n")
                slow.go_on.set()
                await eventually(
                    lambda: gateway.admin.page(b"GET", b"/readyz").status == 200, "ready"
                )

    run(scenario())


def test_the_process_waits_for_its_config_map(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source):
            starting = asyncio.create_task(source.first())
            await eventually(lambda: api.watching("configmaps"), "the config is watched")
            assert not starting.done()
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            assert (await starting).generation == 3
            assert source._watching is not None
            source._watching.cancel()

    run(scenario())


def test_a_removed_endpoint_stays_in_state_until_its_last_request_ended(tmp_path: Path) -> None:
    finish = asyncio.Event()

    async def slow(call: object) -> None:
        await finish.wait()
        await answer(call)  # type: ignore[arg-type]

    async def scenario() -> None:
        async with cluster(tmp_path) as (api, source), engines(slow) as [engine]:
            api.put_config("vision-gateway", json.dumps(EXAMPLE))
            api.put_slice("s1", "vision-flash", {"a": place(engine)})
            async with serving(source) as gateway:
                client: Client = await gateway.client()
                await client.request(chat(model="glm-4.6v-flash"))
                await eventually(lambda: engine.calls, "the request is at the engine")
                api.delete("endpointslices", "s1")
                flash = gateway.gateway.report
                await eventually(
                    lambda: not flash().tiers["flash"].replicas["a"].routable, "out of routing"
                )
                assert flash().tiers["flash"].replicas["a"].in_flight == 1
                finish.set()
                assert (await client.answer()).status == 200
                await eventually(lambda: flash().tiers["flash"].replicas == {}, "forgotten")

    run(scenario())


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (
            {"addresses": ["10.0.0.1"], "conditions": {"ready": True}, "targetRef": {"name": "p"}},
            {"p": Address("10.0.0.1", 8001)},
        ),
        (
            {"addresses": ["10.0.0.1"], "conditions": {}},
            {"10.0.0.1:8001": Address("10.0.0.1", 8001)},
        ),
        ({"addresses": ["10.0.0.1"], "conditions": {"ready": False}}, {}),
        ({"addresses": []}, {}),
    ],
)
def test_ready_endpoints_of_a_slice(endpoint: object, expected: object) -> None:
    import msgspec

    raw = msgspec.Raw(
        json.dumps(
            {
                "metadata": {"labels": {"kubernetes.io/service-name": "svc"}},
                "endpoints": [endpoint],
                "ports": [{"name": "metrics", "port": 9}, {"name": "http", "port": 8001}],
            }
        ).encode()
    )
    assert endpoints.ready_replicas([raw]) == {"svc": expected}


def test_outside_a_pod_the_address_must_be_given() -> None:
    with pytest.raises(ConfigError, match="KUBERNETES_SERVICE_HOST is not set"):
        ApiServer.from_environment({})


def test_the_address_of_the_api_server_comes_from_the_environment() -> None:
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}
    server = ApiServer.from_environment(inside)
    assert (server.host, server.port, server.secure) == ("10.96.0.1", 6443, True)
    given = ApiServer.from_environment(inside | {"GLM_GATEWAY_KUBE_API": "http://127.0.0.1:81"})
    assert (given.host, given.port, given.secure) == ("127.0.0.1", 81, False)
