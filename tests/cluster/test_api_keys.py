"""API keys from a Secret, by real gateways on a real control plane: rights, limits, revocation."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest

from api_keys import entry
from glm_operator.api import names
from glm_operator.kube.resources import POD
from reconcile_stage import Room, Stage, flash, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]
CHAT = json.dumps({"model": "glm", "messages": [{"role": "user", "content": "hello"}]})
AUTH = {"auth": {"apiKeysSecretRef": "glm-api-keys"}}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("operator")) as opened:
        yield opened


@pytest.fixture
def room(scene: Stage) -> Iterator[Room]:
    with scene.room() as opened:
        yield opened


def secret(**entries: Json) -> Json:
    """A Secret with these entries."""
    data = {name: base64.b64encode(json.dumps(one).encode()) for name, one in entries.items()}
    return {
        "metadata": {"name": "glm-api-keys"},
        "data": {name: text.decode() for name, text in data.items()},
    }


def secrets(room: Room) -> str:
    """Where the namespace's Secrets are."""
    return f"/api/v1/namespaces/{room.namespace}/secrets"


@contextmanager
def gateways(room: Room) -> Iterator[list[HTTPConnection]]:
    """A connection to every gateway pod."""
    pods = [
        pod
        for pod in room.list(POD)
        if names.LABEL_TIER not in pod["metadata"]["labels"]
        and "deletionTimestamp" not in pod["metadata"]
    ]
    with ExitStack() as stack:
        yield [stack.enter_context(closing(connection(pod))) for pod in pods]


def connection(pod: Json) -> HTTPConnection:
    """To a gateway's port for clients."""
    return HTTPConnection(pod["status"]["podIP"], names.GATEWAY_PORT, timeout=30)


def ask(gateway: HTTPConnection, key: str) -> tuple[int, Json]:
    """Status and body of one chat completion."""
    headers = {"x-api-key": key, "content-type": "application/json"}
    gateway.request("POST", "/v1/chat/completions", CHAT, headers)
    answer = gateway.getresponse()
    return answer.status, json.loads(answer.read())


def test_a_key_s_limit_holds_over_two_gateways_and_a_revoked_key_stops(room: Room) -> None:
    room.api.create(
        secrets(room),
        secret(alice=entry("a-key", requestsPerMinute=100), bob=entry("b-key", team="search")),
    )
    room.create({"flash": flash(replicas=1)}, gateway={"replicas": 2, **AUTH})
    room.wait("Ready", "True", timeout=120)
    assert room.wait("Unauthenticated", "False")["reason"] == "APIKeysRequired"
    with gateways(room) as pods:
        assert len(pods) == 2
        status, body = ask(pods[0], "nobody's")
        assert (status, body["error"]["code"]) == (401, "InvalidAPIKey")
        check_limit(pods)
        assert [ask(pod, "b-key")[0] for pod in pods] == [200, 200]
        room.api.merge(f"{secrets(room)}/glm-api-keys", {"data": {"bob": None}})
        room.until(
            "the key to stop everywhere",
            lambda: [ask(pod, "b-key")[0] for pod in pods] == [401, 401],
            5,
        )


def check_limit(pods: list[HTTPConnection]) -> None:
    """Send more than twice the limit within a minute, in turn to each gateway."""
    began = time.monotonic()
    turns = itertools.islice(itertools.cycle(pods), 260)
    statuses = Counter(ask(pod, "a-key")[0] for pod in turns)
    assert time.monotonic() - began < 60, "too slow to say anything of one minute"
    assert statuses.keys() == {200, 429}
    assert 80 <= statuses[200] <= 120


def test_a_missing_secret_is_told_and_its_coming_lets_clients_in(room: Room) -> None:
    room.create({"flash": flash(replicas=1)}, gateway=AUTH)
    found = room.wait("GatewayAvailable", "False", "APIKeysNotRead", timeout=120)
    assert f"Secret {room.namespace}/glm-api-keys does not exist" in found["message"]
    room.api.create(secrets(room), secret(alice=entry("a-key")))
    room.wait("Ready", "True", timeout=120)
    with gateways(room) as (gateway,):
        assert ask(gateway, "a-key")[0] == 200


def test_a_secret_that_the_platform_does_not_name_stays_unread(room: Room) -> None:
    room.api.create(secrets(room), secret(alice=entry("a-key")) | {"metadata": {"name": "other"}})
    room.create({"flash": flash(replicas=1)}, gateway={"auth": {"apiKeysSecretRef": "other"}})
    room.wait("Ready", "False", "APIKeysSecretNotAllowed", timeout=120)
    room.edit({"gateway": {"auth": {"apiKeysSecretRef": ""}}})
    room.wait("Ready", "True", timeout=120)
    with gateways(room) as (gateway,):
        assert ask(gateway, "whoever")[0] == 200
