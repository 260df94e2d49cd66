"""Edits that make a new revision, told as whole plans."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import GPU, ModelCluster, gpu_node
from glm_operator.plan.observed import Hold
from plan_builders import FLAGSHIP, FLASH, condition, settled, uids


def test_a_newer_default_restarts_nothing_and_is_shown() -> None:
    made = settled(8, flash=FLASH)
    before = uids(made)
    made.defaults = replace(made.defaults, engine_image="vllm/vllm-openai:v0.33.0")
    made.settle()
    assert uids(made) == before
    shown = made.status["tiers"]["flash"]["updateAvailable"]
    assert shown == "today's defaults would give image vllm/vllm-openai:v0.33.0"


def test_an_operator_that_resolves_differently_restarts_nothing() -> None:
    made = settled(8)
    before = uids(made)
    for name, record in made.revisions.items():
        # As an older version wrote it: a field is missing and gets another default.
        older = {key: value for key, value in record.data.items() if key != "shutdown_seconds"}
        made.revisions[name] = replace(record, data=older | {"forgotten_field": 1})
    made.settle()
    assert uids(made) == before
    assert made.status["tiers"]["flagship"]["updateAvailable"].endswith("shutdown seconds 120")


def test_an_edit_takes_the_newer_default_with_it() -> None:
    made = settled(8)
    made.defaults = replace(made.defaults, engine_image="vllm/vllm-openai:v0.33.0")
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.settle()
    assert made.status["tiers"]["flagship"]["updateAvailable"] == ""


def test_better_nodes_restart_nothing() -> None:
    made = settled(4)
    before = uids(made)
    made.nodes["big"] = gpu_node("big", 8, "NVIDIA-H200", 143_771)
    made.settle()
    assert uids(made) == before


def test_an_edit_that_is_taken_back_goes_back_to_its_old_revision() -> None:
    made = settled(8)
    first = made.of("flagship")[0].revision
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.settle()
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 16})
    made.settle()
    assert made.of("flagship")[0].revision == first
    assert len(made.revisions) == 2


def test_writing_out_what_the_planner_chose_restarts_nothing() -> None:
    made = settled(8)
    before = uids(made)
    made.edit(tiers__flagship__parallelism={"tensor": "2"})
    made.settle()
    assert uids(made) == before
    made.defaults = replace(made.defaults, engine_image="vllm/vllm-openai:v0.33.0")
    made.settle()
    assert uids(made) == before


def test_a_revision_for_which_there_is_no_room_leaves_the_old_one_serving() -> None:
    made = settled(2)
    before = uids(made)
    made.edit(tiers__flagship__parallelism={"tensor": "4"})
    made.settle()
    assert uids(made) == before
    assert made.routable("flagship")
    assert condition(made, "Planned")["reason"] == "DoesNotFit"
    assert condition(made, "Ready")["status"] == "False"


def test_an_edit_that_others_gpus_forbid_is_not_begun() -> None:
    made = settled(8)
    made.set_node("node-1", holds=(Hold(GPU, 6, "ml", "x", "u"),))
    before = uids(made)
    made.edit(tiers__flagship__parallelism={"tensor": "4"})
    made.settle()
    assert uids(made) == before
    assert condition(made, "Planned")["reason"] == "WaitingForGPUs"


@pytest.mark.parametrize(("gpus", "least"), [(8, 2), (4, 1)], ids=["room to surge", "full"])
def test_a_rollout_keeps_as_many_serving_as_it_can(gpus: int, least: int) -> None:
    made = settled(gpus, flagship=FLAGSHIP | {"replicas": 2})
    old = {pod.revision for pod in made.pods.values()}
    made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    lowest, most = 9, 0
    for _ in range(60):
        made.reconcile()
        lowest = min(lowest, len(made.routable("flagship")))
        most = max(most, len(made.pods))
        made.advance(5)
    assert {pod.revision for pod in made.of("flagship")}.isdisjoint(old)
    assert (lowest, most <= 3) == (least, True)
    assert condition(made, "Ready")["status"] == "True"


def test_a_revision_that_never_passes_its_checks_replaces_one_at_most() -> None:
    made = settled(8, flagship=FLAGSHIP | {"replicas": 2})
    served = made.routable("flagship")
    made.edit(tiers__flagship__engine={"extraArgs": ["--tool-call-parser=hermes"]})
    made.reconcile()
    made.broken_revisions = {made.status["tiers"]["flagship"]["revision"]}
    for _ in range(60):
        made.reconcile()
        made.advance(5)
    assert made.routable("flagship") == served
    assert len(made.of("flagship")) == 3
    assert condition(made, "Ready")["status"] == "False"


LIVE = {
    "replicas": {"tiers__flagship__replicas": 2},
    "drain": {"tiers__flagship__drain": {"timeoutSeconds": 5}},
    "scaling": {"tiers__flash__scaling": {"minReplicas": 1, "maxReplicas": 3}},
    "mode": {"tiers__flash__scaling": {"mode": "External"}},
    "routing": {"routing": {"autoModel": "house", "qualityTolerancePoints": 9}},
    "gateways": {"gateway": {"replicas": 3}},
    "aliases": {"gateway": {"modelAliases": {"gpt-4o": "auto"}}},
    "service": {"gateway": {"service": {"type": "NodePort"}}},
    "limits": {"gateway": {"limits": {"maxHeldRequests": 7}}},
    "media by http": {"gateway": {"media": {"allowHTTP": "Enabled"}}},
}


def media(made: ModelCluster) -> dict[str, Any]:
    """What the gateways are told of media."""
    text = made.children["ConfigMap", "vision-gateway"]["data"]["config.json"]
    return dict(json.loads(text)["media"])


def test_a_host_of_media_is_allowed_when_every_engine_that_serves_knows_it() -> None:
    made = settled(8, flash=FLASH)
    assert media(made) == {"allowedDomains": [], "allowHTTP": False}
    made.edit(gateway={"media": {"allowedDomains": ["b.example.org", "a.example.org"]}})
    made.reconcile()
    assert media(made)["allowedDomains"] == []
    made.settle()
    assert media(made)["allowedDomains"] == ["a.example.org", "b.example.org"]
    made.edit(gateway={"media": {"allowedDomains": ["a.example.org"], "allowHTTP": "Enabled"}})
    made.reconcile()
    assert media(made) == {"allowedDomains": ["a.example.org"], "allowHTTP": True}


@pytest.mark.parametrize("edit", LIVE)
def test_a_live_edit_replaces_no_pod(edit: str) -> None:
    made = settled(8, flash=FLASH)
    before = uids(made)
    template = made.children["Deployment", "vision-gateway"]["spec"]["template"]
    made.edit(**LIVE[edit])
    made.settle()
    assert before <= uids(made)
    assert made.children["Deployment", "vision-gateway"]["spec"]["template"] == template
