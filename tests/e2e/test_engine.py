"""The real vLLM on the local cluster: the demo's requests, and two engines that must not serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from deployments import engine_pods, example, wait_condition
from glm_dev.demo.scenes import (
    CLICK_TOOL,
    Client,
    loop_with_image_result,
    screenshot,
    see_and_click,
)
from glm_dev.hub.server import Hub
from glm_dev.site import Site

pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.timeout(1800)]

QUESTION = [{"role": "user", "content": "What is a taint in Kubernetes?"}]
CLICK = {"tools": [CLICK_TOOL], "tool_choice": "required", "parallel_tool_calls": False}
START_SECONDS = 900
"""Two engines start side by side in 60 to 90 s on two idle cores; a busy machine takes longer."""


def test_real_engines_of_both_tiers_answer_routed_tool_calls_from_fetched_weights(
    site: Site, namespace: str, hub: Hub, gateway: Callable[[], Client]
) -> None:
    obj = example("local", namespace)
    for name, tier in obj["spec"]["tiers"].items():
        tier["model"] |= {"uri": f"hf://glm/{name}", "quantization": "Auto"}
        tier["weights"] = {"secretRef": "hub"}
    # One start for each tier: sleeping and waking is proved with the simulator and in the demo.
    obj["spec"]["tiers"]["flash"]["scaling"] = {"mode": "Off"}
    site.kubectl.apply(obj)
    stored = wait_condition(site, namespace, "Ready", "True", timeout=START_SECONDS)
    for name in ("flagship", "flash"):
        (copy,) = stored["status"]["tiers"][name]["weights"]["copies"]
        assert copy["state"] == "Ready"
        assert stored["status"]["plan"][name]["quantization"] == "BF16"
    client = gateway()
    text, _ = client.ask("text", QUESTION, tier="flash", max_tokens=16)
    task = [see_and_click("Save the document.", screenshot("save"))]
    first, call = client.ask("screenshot with a tool", task, tier="flagship", **CLICK)
    assert call is not None, first
    loop = loop_with_image_result(call)
    result, _ = client.ask("tool result", loop, tier="flagship", **CLICK)
    streamed = client.stream("stream", QUESTION, tier="flash")
    answers = [text, first, result, streamed]
    assert [a for a in answers if not a.right] == []


def alone(tier: str, namespace: str) -> dict[str, Any]:
    """The local object with one replica of one tier, which does not sleep."""
    obj = example("local", namespace)
    tiers = obj["spec"]["tiers"]
    obj["spec"]["tiers"] = {tier: tiers[tier]}
    if tier == "flash":
        tiers[tier]["scaling"] = {"mode": "Off"}
    return obj


def refused(site: Site, namespace: str, tier: str) -> str:
    """Wait until verification failed; the message, with the pod shown not to be routable."""
    obj = wait_condition(site, namespace, "ToolCallVerified", "False", timeout=START_SECONDS)
    pods = engine_pods(site, namespace, tier)
    assert pods
    assert all("glm-operator.io/routable" not in pod["metadata"]["labels"] for pod in pods)
    found = [c for c in obj["status"]["conditions"] if c["type"] == "ToolCallVerified"]
    return str(found[0]["message"])


@pytest.mark.full
def test_an_engine_with_the_wrong_parser_is_healthy_and_never_routed(
    site: Site, namespace: str
) -> None:
    obj = alone("flash", namespace)
    obj["spec"]["tiers"]["flash"]["engine"]["extraArgs"].append("--tool-call-parser=hermes")
    site.kubectl.apply(obj)
    assert "the parser check expected restart(server=a)" in refused(site, namespace, "flash")
    (pod,) = engine_pods(site, namespace, "flash")
    ready = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert ready["ContainersReady"] == "True"
    assert ready["Ready"] == "False"


@pytest.mark.full
def test_an_engine_that_dies_at_its_first_image_is_never_routed(site: Site, namespace: str) -> None:
    obj = alone("flagship", namespace)
    engine = obj["spec"]["tiers"]["flagship"]["engine"]
    # Without a compiler in the image, only this variable keeps the engine from compiling.
    engine["env"] = [e for e in engine["env"] if e["name"] != "TORCHDYNAMO_DISABLE"]
    site.kubectl.apply(obj)
    assert "the engine ended during the image check" in refused(site, namespace, "flagship")
