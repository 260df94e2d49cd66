"""The whole path on the local cluster, with the engine simulator in place of vLLM."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments import NAME, engine_pods, example, wait_condition
from glm_dev.demo.scenes import (
    CLICK_TOOL,
    Answer,
    Client,
    loop_with_image_result,
    screenshot,
    see_and_click,
)
from glm_dev.demo.stage import judge_held
from glm_dev.demo.view import is_asleep
from glm_dev.kubectl import KubectlError, condition, wait_for
from glm_dev.site import SYSTEM, Site
from prometheus import Target, moving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

QUESTION = [{"role": "user", "content": "What is a taint in Kubernetes?"}]
CLICK = {"tools": [CLICK_TOOL], "tool_choice": "required", "parallel_tool_calls": False}
Gateway = Callable[[], Client]

MOVED_IN_GATEWAY = (
    "glm_gateway_requests_total",
    "glm_gateway_first_token_seconds_count",
    "glm_gateway_hold_seconds_count",
    "glm_gateway_tokens_total",
    "glm_gateway_decision_seconds_count",
)
MOVED_IN_OPERATOR = (
    "glm_operator_reconcile_seconds_count",
    "glm_operator_queue_seconds_count",
    "glm_operator_verifications_total",
    "glm_operator_scale_decisions_total",
    'glm_operator_gpus{state="planned"}',
    'glm_operator_gpus{state="free"}',
    'glm_operator_replicas{namespace="NAMESPACE",state="desired"}',
    'glm_operator_replicas{namespace="NAMESPACE",state="ready"}',
)
MOVED_BY_FAILURES = (
    "glm_gateway_retries_total",
    "glm_gateway_aborts_total",
    'glm_operator_reconcile_errors_total{error="RefusedError"}',
)


def test_one_object_answers_routed_multimodal_tool_calls_and_sleeps_and_wakes(
    site: Site, namespace: str, gateway: Gateway, tmp_path: Path
) -> None:
    of_operator = [series.replace("NAMESPACE", namespace) for series in MOVED_IN_OPERATOR]
    with moving(tmp_path / "operator", operators(site), of_operator):
        site.kubectl.apply(example("simulated", namespace))
        wait_condition(site, namespace, "Ready", "True")
        with moving(tmp_path / "gateways", gateways(site, namespace), MOVED_IN_GATEWAY):
            client = gateway()
            answers = _answers_of_both_tiers(client)
            wait_condition(site, namespace, "FlashAvailable", "True", "ScaledToZero")
            wait_for("flash to have no pod", lambda: _flash_asleep(site, namespace), 60)
            held, _ = client.ask("held", QUESTION, tier="flash", max_tokens=16)
    answers.append(judge_held(site, namespace, held))
    assert [a for a in answers if not a.right] == []


def _answers_of_both_tiers(client: Client) -> list[Answer]:
    text, _ = client.ask("text", QUESTION, tier="flash", max_tokens=16)
    task = [see_and_click("Save the document.", screenshot("save"))]
    first, call = client.ask("screenshot with a tool", task, tier="flagship", **CLICK)
    assert call is not None, first
    loop = loop_with_image_result(call)
    result, _ = client.ask("tool result", loop, tier="flagship", **CLICK)
    return [text, first, result, client.stream("stream", QUESTION, tier="flash")]


def _flash_asleep(site: Site, namespace: str) -> bool:
    return is_asleep(site.kubectl, namespace, NAME, "flash")


def operators(site: Site) -> list[Target]:
    """The operator's metrics; its pods outlive every test."""
    pods = site.kubectl.list("pod", SYSTEM, "app.kubernetes.io/name=glm-operator")
    return [Target("operator", f"{pod['status']['podIP']}:9090") for pod in pods]


def gateways(site: Site, namespace: str) -> list[Target]:
    """The second ports of all gateways of the object, each once it is ready."""
    deployment = f"deployment/{NAME}-gateway"
    site.kubectl.run("rollout", "status", deployment, "-n", namespace, "--timeout=50s")
    pods = site.kubectl.list("pod", namespace, "app.kubernetes.io/component=gateway")
    return [Target("gateway", f"{pod['status']['podIP']}:9090") for pod in pods]


def test_what_goes_wrong_is_counted_where_it_goes_wrong(
    site: Site, namespace: str, gateway: Gateway, tmp_path: Path
) -> None:
    obj = example("simulated", namespace)
    del obj["spec"]["tiers"]["flagship"]
    obj["spec"]["tiers"]["flash"] |= {"scaling": {"mode": "Off"}, "replicas": 2}
    site.kubectl.apply(obj)
    wait_condition(site, namespace, "Ready", "True")
    wait_for("two replicas in every gateway", lambda: _all_see_two(site, namespace), 60)
    replicas = [pod["status"]["podIP"] for pod in engine_pods(site, namespace, "flash")]
    targets = [*operators(site), *gateways(site, namespace)]
    with moving(tmp_path / "prometheus", targets, MOVED_BY_FAILURES):
        _behave(replicas[0], fail_status=503)
        client = gateway()
        asked = [client.ask("one fails", QUESTION, tier="flash", max_tokens=8) for _ in range(6)]
        assert [answer for answer, _ in asked if not answer.right] == []
        for replica in replicas:  # neither ends by itself before the client leaves
            _behave(replica, fail_status=0, inter_token_ms=60_000)
        client.leave_early(QUESTION)
        _forbid_more_pods(site, namespace)
        site.kubectl.run("scale", "glm/vision", "--replicas=3", "-n", namespace)


def _all_see_two(site: Site, namespace: str) -> bool:
    """Whether every gateway has two replicas in routing; a pod's label is there before that."""
    seen = [_routable(target) for target in gateways(site, namespace)]
    return bool(seen) and set(seen) == {2}


def _routable(gateway: Target) -> int:
    with urllib.request.urlopen(f"http://{gateway.address}/state", timeout=10) as answer:
        replicas = json.load(answer)["tiers"]["flash"]["replicas"]
    return sum(replica["routable"] for replica in replicas.values())


def _behave(address: str, **behaviour: object) -> None:
    request = urllib.request.Request(
        f"http://{address}:8000/sim/behaviour",
        json.dumps(behaviour).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def _forbid_more_pods(site: Site, namespace: str) -> None:
    """By a policy: what a quota forbids the planner sees, and does not even try."""
    policy = f"{namespace}-no-more-pods"
    api = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": policy}}
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    rule = {"expression": "false", "message": "no more pods here"}
    spec = {"matchConstraints": {"resourceRules": [pods]}, "validations": [rule]}
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding = {
        "policyName": policy,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": here},
    }
    site.kubectl.apply(api | {"kind": "ValidatingAdmissionPolicy", "spec": spec})
    site.kubectl.apply(api | {"kind": "ValidatingAdmissionPolicyBinding", "spec": binding})
    wait_for("the policy to be enforced", lambda: _is_forbidden(site, namespace), 30)


def _is_forbidden(site: Site, namespace: str) -> bool:
    # Pod Security would be asked first: the pod has to be restricted.
    inside = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    user = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"name": "one", "image": "none", "securityContext": inside}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "try", "namespace": namespace},
        "spec": {"containers": [container], "securityContext": user},
    }
    try:
        site.kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(pod))
    except KubectlError as error:
        return "no more pods here" in str(error)
    return False


def test_flash_follows_scale_when_scaling_is_off(site: Site, namespace: str) -> None:
    obj = example("simulated", namespace)
    del obj["spec"]["tiers"]["flagship"]
    obj["spec"]["tiers"]["flash"]["scaling"] = {"mode": "Off"}
    site.kubectl.apply(obj)
    wait_condition(site, namespace, "Ready", "True")
    site.kubectl.run("scale", "glm/vision", "--replicas=2", "-n", namespace)
    wait_for("two flash pods", lambda: len(engine_pods(site, namespace, "flash")) == 2, 30)
    site.kubectl.run("scale", "glm/vision", "--replicas=1", "-n", namespace)
    wait_for("one flash pod", lambda: len(engine_pods(site, namespace, "flash")) == 1, 60)


def test_internal_scaling_refuses_kubectl_scale_with_its_sentence(
    site: Site, namespace: str
) -> None:
    site.kubectl.apply(example("simulated", namespace))
    with pytest.raises(KubectlError, match="flash is scaled by the operator"):
        site.kubectl.run("scale", "glm/vision", "--replicas=2", "-n", namespace)


def test_flash_grows_with_work_in_flight(site: Site, namespace: str, gateway: Gateway) -> None:
    obj = example("simulated", namespace)
    del obj["spec"]["tiers"]["flagship"]
    flash = obj["spec"]["tiers"]["flash"]
    flash["scaling"]["minReplicas"] = 1
    flash["engine"]["env"] = [{"name": "SIM_INTER_TOKEN_MS", "value": "200"}]
    site.kubectl.apply(obj)
    wait_condition(site, namespace, "Ready", "True")
    client = gateway()
    threads = [
        threading.Thread(
            target=client.ask, args=("load", QUESTION), kwargs={"tier": "flash", "max_tokens": 60}
        )
        for _ in range(24)
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for("a second replica", lambda: len(engine_pods(site, namespace, "flash")) == 2, 30)
    finally:
        for thread in threads:
            thread.join()


def test_an_object_that_does_not_fit_takes_no_gpu_and_says_why(site: Site, namespace: str) -> None:
    obj = example("simulated", namespace)
    obj["spec"]["tiers"]["flagship"]["parallelism"]["tensor"] = "8"
    del obj["spec"]["tiers"]["flash"]
    site.kubectl.apply(obj)
    planned = condition(wait_condition(site, namespace, "Planned", "False"), "Planned")
    assert "needs 8 GPUs on one node" in planned["message"]
    assert engine_pods(site, namespace, "flagship") == []


def test_deleting_the_object_leaves_nothing(site: Site, namespace: str) -> None:
    site.kubectl.apply(example("simulated", namespace))
    wait_condition(site, namespace, "Ready", "True")
    site.kubectl.run("delete", "glm/vision", "-n", namespace, timeout=60)
    kinds = (
        "pod,service,deployment,configmap,serviceaccount,rolebinding,"
        "controllerrevision,poddisruptionbudget,endpointslice"
    )
    kept = ("default", "kube-root-ca.crt")

    def left() -> list[str]:
        found = site.kubectl.list(kinds, namespace)
        return [o["metadata"]["name"] for o in found if o["metadata"]["name"] not in kept]

    wait_for("nothing to remain", lambda: not left(), 60)
