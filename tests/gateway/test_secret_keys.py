"""API keys from a Secret, and limits that ready gateways share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from api_keys import entry
from fake_api_server import FakeApiServer
from gateway_fakes import DATA, FAST, Engine, Running, answer, chat, engines, eventually, run
from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.admin import Admin
from glm_serving.gateway.kube import ApiServer
from glm_serving.gateway.kubesource import KubernetesSource
from glm_serving.gateway.server import Options, Server

EXAMPLE = json.loads((DATA / "gateway-config.json").read_text())
LOCAL = Options(host="127.0.0.1", port=0, admin_port=0, shutdown_delay=0, shutdown_timeout=1)
ALICE, BOB = json.dumps(entry("a-key")), json.dumps(entry("b-key"))
NAME = "vision-gateway"


def configure(api: FakeApiServer, secret: str = "glm-api-keys") -> None:
    """Put the configuration, with this Secret of keys."""
    auth = {"apiKeysSecret": secret}
    api.put_config(NAME, json.dumps(EXAMPLE | {"auth": auth, "gatewayService": NAME}))


@contextlib.asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[FakeApiServer, Running, Engine]]:
    """A gateway of an API server with its configuration and one engine, and no Secret yet."""
    (tmp_path / "token").write_text("secret\n")
    api = await FakeApiServer().start()
    configure(api)
    kube = ApiServer("127.0.0.1", api.port, False, tmp_path)
    source = KubernetesSource(kube, "ml", NAME, random=lambda: 0.1)
    server = Server(source, LOCAL, FAST, AccessLog(lambda _: None))
    async with engines(answer) as [engine]:
        api.put_slice("s1", "vision-flash", {"vision-flash-1-0": ("127.0.0.1", engine.port)})
        await server.start()
        one = Running(server.gateway, server.port, Admin(server.gateway, source.not_ready), [])
        try:
            yield api, one, engine
        finally:
            for client in one.clients:
                client.abort()
            await server.stop()
            await api.stop()


async def becomes(gateway: Running, key: str, status: int) -> None:
    """Ask with a key until this is the answer's status."""
    while (await gateway.ask(chat("hello", "glm-4.6v-flash"), x_api_key=key)).status != status:
        pass


def readiness(gateway: Running) -> str:
    """What `/readyz` says."""
    return gateway.admin.page(b"GET", b"/readyz").body.decode().strip()


def test_entries_of_the_secret_come_and_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            api.put_secret("glm-api-keys", alice=ALICE)
            await becomes(gateway, "a-key", 200)
            await becomes(gateway, "b-key", 401)
            api.put_secret("glm-api-keys", bob=BOB, broken="sk-plain")
            await becomes(gateway, "a-key", 401)
            await becomes(gateway, "b-key", 200)
            assert gateway.metric("glm_gateway_config_errors_total") == 1

    run(scenario())


def test_without_the_secret_the_gateway_is_not_ready_and_says_which_is_missing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            says = "the API keys are not read: Secret ml/glm-api-keys does not exist"
            await eventually(lambda: readiness(gateway) == says, "it says what is missing")
            await becomes(gateway, "a-key", 503)
            api.put_secret("glm-api-keys", alice=ALICE)
            await becomes(gateway, "a-key", 200)
            assert readiness(gateway) == "ok"
            api.delete("secrets", "glm-api-keys")
            await becomes(gateway, "a-key", 503)
            assert readiness(gateway) == says

    run(scenario())


def test_a_secret_that_may_not_be_read_is_told_and_read_once_it_may(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            api.forbidden.add("secrets")
            configure(api, "other")
            await eventually(lambda: "forbidden" in readiness(gateway), "it says why")
            assert gateway.metric("glm_gateway_watch_errors_total", resource="secrets") >= 1
            api.forbidden.clear()
            api.put_secret("other", alice=ALICE)
            await becomes(gateway, "a-key", 200)

    run(scenario())


def test_a_wrong_name_of_the_secret_takes_nobody_s_key_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            api.put_secret("glm-api-keys", alice=ALICE)
            await becomes(gateway, "a-key", 200)
            configure(api, "glm-api-kyes")
            missing = "Secret ml/glm-api-kyes does not exist"
            await eventually(lambda: gateway.gateway.guard.trouble == missing, "it is told")
            await becomes(gateway, "a-key", 200)
            assert readiness(gateway) == "ok"
            api.put_secret("glm-api-kyes", bob=BOB)
            await becomes(gateway, "a-key", 401)

    run(scenario())


def test_keys_stay_while_the_api_server_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            api.put_secret("glm-api-keys", alice=ALICE)
            await becomes(gateway, "a-key", 200)
            await api.stop()
            await eventually(lambda: gateway.gateway.guard.trouble, "it is noticed")
            await becomes(gateway, "a-key", 200)
            assert readiness(gateway) == "ok"

    run(scenario())


def test_keys_are_no_longer_asked_for_when_no_secret_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            await becomes(gateway, "a-key", 503)
            configure(api, "")
            await becomes(gateway, "a-key", 200)

    run(scenario())


def test_limits_are_divided_by_the_ready_gateways(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(tmp_path) as (api, gateway, _):
            guard = gateway.gateway.guard
            assert guard.gateways == 1
            pods = {name: ("10.0.0.1", 8080) for name in ("g-1", "g-2")}
            api.put_slice("own", NAME, pods, **{"g-3": ("10.0.0.3", 8080)})
            await eventually(lambda: guard.gateways == 2, "two are ready")
            api.delete("endpointslices", "own")
            await eventually(lambda: guard.gateways == 1, "this one is always there")

    run(scenario())
