"""API keys: which Secret gateways are told of and may read, and what the status says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.plan.observed import Defaults
from plan_builders import condition, settled, uids


def with_keys(secret: str, **defaults: Any) -> ModelCluster:
    """A settled object that asks for API keys of this Secret."""
    made = settled(8)
    made.defaults = Defaults(**defaults)
    made.edit(gateway={"auth": {"apiKeysSecretRef": secret}})
    made.settle()
    return made


def says(found: ModelCluster, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    one = condition(found, kind)
    return one["status"], one["reason"]


def told(found: ModelCluster) -> str:
    """The Secret that the gateways are told of."""
    data = found.children["ConfigMap", "vision-gateway"]["data"]
    return str(json.loads(data["config.json"])["auth"]["apiKeysSecret"])


BINDING = ("RoleBinding", "vision-gateway-keys")


def test_without_a_secret_anyone_may_come_and_no_secret_may_be_read() -> None:
    found = settled(8)
    assert says(found, "Unauthenticated") == ("True", "NoAPIKeys")
    assert told(found) == ""
    assert BINDING not in found.children


def test_with_a_secret_clients_need_a_key_and_the_gateways_may_read_it() -> None:
    found = with_keys("glm-api-keys")
    assert says(found, "Unauthenticated") == ("False", "APIKeysRequired")
    assert says(found, "Ready") == ("True", "Serving")
    assert told(found) == "glm-api-keys"
    assert BINDING in found.children


def test_asking_for_keys_and_no_longer_restarts_nothing_and_takes_the_right_back() -> None:
    found = settled(8)
    before, pods = uids(found), found.children["Deployment", "vision-gateway"]["spec"]
    found.edit(gateway={"auth": {"apiKeysSecretRef": "glm-api-keys"}})
    found.settle()
    found.edit(gateway={"auth": {"apiKeysSecretRef": ""}})
    found.settle()
    assert uids(found) == before
    assert found.children["Deployment", "vision-gateway"]["spec"] == pods
    assert BINDING not in found.children
    assert says(found, "Unauthenticated") == ("True", "NoAPIKeys")


@pytest.mark.parametrize(
    ("allowed", "named"), [((), "none"), (("glm-api-keys", "other"), "glm-api-keys, other")]
)
def test_a_secret_that_the_platform_does_not_allow_is_told(
    allowed: tuple[str, ...], named: str
) -> None:
    found = with_keys("database-password", api_keys_secret_names=allowed)
    assert says(found, "GatewayAvailable") == ("False", "APIKeysSecretNotAllowed")
    assert says(found, "Ready") == ("False", "APIKeysSecretNotAllowed")
    assert says(found, "Unauthenticated") == ("False", "APIKeysSecretNotAllowed")
    message = condition(found, "Ready")["message"]
    assert "gateway.auth.apiKeysSecretRef is 'database-password'" in message
    assert f"lets gateways read {named} (gateway.apiKeysSecretNames of the chart)" in message
    assert BINDING not in found.children


def test_gateways_that_let_nobody_in_are_not_available_and_say_why() -> None:
    found = with_keys("glm-api-keys")
    found.locked = "the API keys are not read: Secret ml/glm-api-keys does not exist"
    found.settle()
    assert says(found, "GatewayAvailable") == ("False", "APIKeysNotRead")
    assert says(found, "Ready") == ("False", "APIKeysNotRead")
    assert condition(found, "Ready")["message"] == (
        "vision-gateway-0 lets nobody in: the API keys are not read: Secret ml/glm-api-keys does"
        " not exist."
    )
    found.locked = ""
    found.settle()
    assert says(found, "Ready") == ("True", "Serving")
