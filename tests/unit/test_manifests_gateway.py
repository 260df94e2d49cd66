"""The gateway's objects and the small ones: what they are, and when they are written again."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glm_operator.api import names
from glm_operator.manifests import gateway, services
from glm_operator.manifests.applied import is_applied, stamped
from glm_operator.manifests.engine_pod import grace_seconds
from glm_operator.manifests.labels import Owner, gateway_selector, selector_text, tier_selector
from plan_builders import engine

OWNER = Owner("vision", "ml", "uid-vision")
FIXTURE = Path(__file__).resolve().parents[1] / "data" / "gateway-config.json"
PODS = gateway.GatewayPods("gateway:1", "IfNotPresent", 2, ("secret",))

NIGHTLY = {
    "name": "nightly",
    "match": {
        "tasks": ["general", "ocr-and-charts"],
        "minImages": 1,
        "hasVideo": "Excluded",
        "hasTools": "Any",
        "inToolLoop": "Any",
        "minContextTokens": 0,
        "headers": {"x-batch": "nightly"},
        "models": ["gpt-4o"],
    },
    "tier": "flash",
}


def config() -> gateway.GatewayConfig:
    """What the shared fixture says."""
    return gateway.GatewayConfig(
        generation=3,
        auto_model="glm",
        quality_tolerance_points=5,
        rules=(NIGHTLY,),
        max_body_bytes=67_108_864,
        max_in_flight_bytes=1_073_741_824,
        max_held_requests=512,
        media_domains=("images.example.org",),
        allow_http=True,
        aliases={"gpt-4o": "auto", "house-vision": "flagship"},
        tiers={
            "flash": gateway.TierRoute("glm-4.6v-flash", 65_536, 8, 0, 300, "vision-flash"),
            "flagship": gateway.TierRoute("glm-4.6v", 131_072, 16, 0, 300, "vision-flagship"),
            "text": gateway.TierRoute("glm-4.6", 202_752, 0, 0, 300, "vision-text"),
        },
    )


def test_the_configuration_is_the_one_that_the_gateway_is_tested_with() -> None:
    assert gateway.config_document(OWNER, config()) == json.loads(FIXTURE.read_text())


def test_the_same_configuration_is_the_same_text() -> None:
    one = gateway.config_map(OWNER, config())["data"][names.GATEWAY_CONFIG_KEY]
    two = gateway.config_map(OWNER, config())["data"][names.GATEWAY_CONFIG_KEY]
    assert one == two
    assert json.loads(one)["generation"] == 3


def test_the_gateway_outlives_the_engines_streams() -> None:
    spec = gateway.deployment(OWNER, PODS)["spec"]["template"]["spec"]
    longest = engine(shutdown_seconds=120)
    assert spec["terminationGracePeriodSeconds"] >= grace_seconds(longest)


def test_no_gateway_goes_before_its_successor_is_ready() -> None:
    strategy = gateway.deployment(OWNER, PODS)["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_configuration_is_watched_and_not_mounted() -> None:
    spec = gateway.deployment(OWNER, PODS)["spec"]["template"]["spec"]
    assert [list(one) for one in spec["volumes"]] == [["name", "emptyDir"]]
    command = spec["containers"][0]["command"]
    wanted = ["glm-gateway", "--kubernetes-configmap", "vision-gateway", "--namespace", "ml"]
    assert command == wanted


def test_the_gateway_obeys_pod_security_restricted() -> None:
    spec = gateway.deployment(OWNER, PODS)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    security = spec["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True


def test_the_gateway_may_read_and_nothing_else() -> None:
    binding = gateway.role_binding(OWNER)
    assert binding["roleRef"]["name"] == names.GATEWAY_CLUSTER_ROLE
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "vision-gateway", "namespace": "ml"}
    ]


def test_keys_are_read_by_a_role_and_a_binding_of_their_own() -> None:
    binding = gateway.keys_role_binding(OWNER)
    assert binding["metadata"]["name"] == "vision-gateway-keys"
    assert binding["roleRef"]["name"] == names.GATEWAY_KEYS_CLUSTER_ROLE
    assert binding["subjects"] == gateway.role_binding(OWNER)["subjects"]


def test_the_configuration_names_the_secret_of_keys() -> None:
    found = gateway.config_document(OWNER, replace(config(), api_keys_secret="team-keys"))
    assert found["auth"] == {"apiKeysSecret": "team-keys"}


def test_clients_reach_the_gateway_and_not_its_second_port() -> None:
    (port,) = gateway.service(OWNER, "ClusterIP")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")
    containers = gateway.deployment(OWNER, PODS)["spec"]["template"]["spec"]["containers"]
    ports = {one["name"]: one["containerPort"] for one in containers[0]["ports"]}
    assert ports == {"http": names.GATEWAY_PORT, "admin": names.GATEWAY_ADMIN_PORT}
    assert gateway.service_url(OWNER) == "http://vision-gateway.ml.svc/v1"


def test_the_gateways_selectors_select_its_pods() -> None:
    made = gateway.deployment(OWNER, PODS)["spec"]
    labels = made["template"]["metadata"]["labels"]
    for selector in (
        made["selector"]["matchLabels"],
        gateway.service(OWNER, "x")["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()


def test_a_tiers_service_shows_only_routable_replicas() -> None:
    spec = services.tier_service(OWNER, "flash")["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["selector"][names.LABEL_ROUTABLE] == "true"


@pytest.mark.parametrize(("replicas", "least"), [(0, 0), (1, 0), (2, 1), (5, 4)])
def test_a_budget_lets_one_replica_go_at_a_time(replicas: int, least: int) -> None:
    selector = tier_selector("vision", "flash")
    budget = services.disruption_budget(OWNER, "vision-flash", selector, replicas)["spec"]
    assert budget["minAvailable"] == least
    assert isinstance(budget["minAvailable"], int)
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert names.LABEL_ROUTABLE not in budget["selector"]["matchLabels"]


def test_selectors_as_text_are_sorted() -> None:
    text = selector_text({"b": "2", "a": "1"})
    assert text == "a=1,b=2"
    assert selector_text(gateway_selector("vision")).startswith("app.kubernetes.io/component=")


# Written only when different.

WANTED = stamped(gateway.deployment(OWNER, PODS))


def live() -> dict[str, Any]:
    """The Deployment as the API server would show it: with defaults and others' fields."""
    made = copy.deepcopy(WANTED)
    made["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": []}
    made["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    made["spec"]["revisionHistoryLimit"] = 10
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["terminationMessagePath"] = "/dev/termination-log"
    made["spec"]["template"]["spec"]["containers"].insert(0, {"name": "sidecar", "image": "x"})
    made["status"] = {"readyReplicas": 2}
    return made


def test_what_others_add_is_no_change() -> None:
    assert is_applied(WANTED, live())


def test_a_missing_child_is_a_change() -> None:
    assert not is_applied(WANTED, None)


def test_a_changed_field_is_a_change() -> None:
    found = live()
    found["spec"]["template"]["spec"]["containers"][1]["image"] = "other"
    assert not is_applied(WANTED, found)


def test_a_removed_item_is_a_change() -> None:
    found = live()
    found["spec"]["template"]["spec"]["containers"][1]["command"].pop()
    assert not is_applied(WANTED, found)


def test_a_field_that_we_no_longer_want_is_a_change() -> None:
    fewer = gateway.GatewayPods("gateway:1", "IfNotPresent", 2)
    assert not is_applied(stamped(gateway.deployment(OWNER, fewer)), live())
