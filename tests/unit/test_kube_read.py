"""Which pods are gateways of ours."""

from __future__ import annotations

from typing import Any

import pytest

from glm_operator.api import names
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.read import GatewayPod, gateway_pods
from glm_operator.plan.observed import Observed
from shell import glm_deployment

REFERENCE = {"kind": "ReplicaSet", "name": "vision-gateway-7c9f", "uid": "rs", "controller": True}
LABELS = {
    names.LABEL_DEPLOYMENT: "vision",
    "app.kubernetes.io/component": "gateway",
    "pod-template-hash": "7c9f",
}


def pod(name: str = "gw-1", ip: str = "10.0.0.1", **changes: Any) -> dict[str, Any]:
    """A pod as the gateway's ReplicaSet makes it."""
    metadata = {"name": name, "namespace": "ml", "labels": LABELS, "ownerReferences": [REFERENCE]}
    phase = changes.pop("phase", "Running")
    return {"metadata": metadata | changes, "status": {"phase": phase, "podIP": ip}}


def found(*pods: dict[str, Any], owned: str = "vision-gateway") -> list[GatewayPod]:
    """The gateways among pods, where we own one Deployment."""
    deployment = GLMDeployment.parse(glm_deployment())
    observed = Observed(deployment, "uid", 1, children={("Deployment", owned): {}})
    return list(gateway_pods(pods, observed))


def test_the_pods_of_our_deployment_are_found_in_the_order_of_their_names() -> None:
    expected = [GatewayPod("gw-1", "10.0.0.1"), GatewayPod("gw-2", "10.0.0.2")]
    assert found(pod("gw-2", "10.0.0.2"), pod()) == expected


@pytest.mark.parametrize(
    "stranger",
    [
        pod(ownerReferences=[]),
        pod(ownerReferences=[REFERENCE | {"controller": False}]),
        pod(ownerReferences=[REFERENCE | {"kind": "Job"}]),
        pod(ownerReferences=[REFERENCE | {"name": "vision-gateway-probe-7c9f"}]),
        pod(labels={names.LABEL_DEPLOYMENT: "vision", "app.kubernetes.io/component": "gateway"}),
    ],
    ids=[
        "nobody's",
        "not controlled",
        "of another kind",
        "of a Deployment whose name begins like ours",
        "without the label of a ReplicaSet",
    ],
)
def test_a_pod_that_only_carries_our_labels_is_not_asked(stranger: dict[str, Any]) -> None:
    assert found(stranger, pod("gw-2")) == [GatewayPod("gw-2", "10.0.0.1")]


def test_without_a_deployment_of_ours_nobody_is_asked() -> None:
    assert found(pod(), owned="vision-gateway-of-others") == []


@pytest.mark.parametrize("absent", [pod(ip=""), pod(phase="Pending")], ids=["no IP", "pending"])
def test_a_gateway_that_does_not_run_cannot_be_asked(absent: dict[str, Any]) -> None:
    assert found(absent) == []
