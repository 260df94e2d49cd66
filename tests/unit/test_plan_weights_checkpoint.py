"""Weights in the plan: what a checkpoint turned out to be counts, and not what was believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.api import reasons
from glm_operator.manifests.weights_task import TaskKind
from glm_operator.plan.observed import JobPhase
from plan_builders import HUB, cluster, condition
from recorded_facts import facts

COMMIT = "c" * 40


def read_as(name: str, flagship: dict[str, Any], **changes: Any) -> ModelCluster:
    """A cluster on which the flagship's checkpoint is read as one of the fixtures."""
    made = cluster(8, flagship=flagship)
    made.facts = facts(name, **changes) | {"commit": COMMIT}
    for _ in range(30):
        made.reconcile()
        made.advance(5)
    return made


def test_the_checkpoints_format_counts_and_the_difference_is_told() -> None:
    made = read_as("glm-4.6v", HUB)
    planned = made.status["plan"]["flagship"]
    assert planned["quantization"] == "BF16"
    assert planned["checkpointBytes"] == facts("glm-4.6v")["bytes"]
    assert "the checkpoint is BF16" in planned["warnings"][0]
    assert len(made.pods) == 1


def test_an_automatic_format_is_the_checkpoints() -> None:
    tier = HUB | {"model": HUB["model"] | {"quantization": "Auto"}}
    made = read_as("glm-4.6v-fp8", tier)
    assert made.status["plan"]["flagship"]["quantization"] == "FP8"
    assert not made.status["plan"]["flagship"]["warnings"]


def test_a_record_keeps_what_the_checkpoint_is() -> None:
    made = read_as("glm-4.6v-fp8", HUB, text__num_hidden_layers=40)
    (record,) = made.revisions.values()
    assert json.loads(record.data["checkpoint"])["text"]["num_hidden_layers"] == 40
    assert not made.jobs or {one.task.kind for one in made.jobs.values()} == {TaskKind.FETCH}
    assert made.plan().actions == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("glm-4.6v-unsupported", reasons.ARCHITECTURE_UNSUPPORTED),
        ("glm-4.6v-flash", reasons.CHECKPOINT_MISMATCH),
    ],
)
def test_a_checkpoint_that_the_tier_cannot_serve_takes_no_gpu(name: str, reason: str) -> None:
    made = read_as(name, HUB)
    assert (made.pods, made.fetched) == ({}, [])
    assert condition(made, "Planned")["reason"] == reason
    assert condition(made, "Ready")["reason"] == reason


def test_more_context_than_the_checkpoint_holds_is_refused_by_name() -> None:
    tier = HUB | {"context": {"maxModelLen": 131072}}
    made = read_as("glm-4.6v-fp8", tier, text__max_position_embeddings=65536)
    planned = condition(made, "Planned")
    assert planned["reason"] == reasons.CHECKPOINT_MISMATCH
    assert "context.maxModelLen is 131072" in planned["message"]


def test_a_preset_that_is_believed_does_not_look_at_the_checkpoint() -> None:
    made = read_as("glm-4.6v-unsupported", HUB | {"weights": {"prePull": "Disabled"}})
    assert len(made.pods) == 1


def test_a_reading_job_on_a_node_that_is_lost_is_made_anew() -> None:
    made = cluster(8, 8, flagship=HUB)
    made.reconcile()
    (job,) = made.jobs.values()
    made.jobs[job.name] = replace(job, node="node-2", phase=JobPhase.RUNNING)
    made.set_node("node-2", ready=False)
    made.reconcile()
    assert [one.task.attempt for one in made.jobs.values()] == [1]


def test_a_tier_whose_checkpoint_cannot_be_served_says_so_and_not_that_it_lacks_gpus() -> None:
    made = read_as("glm-4.6v-unsupported", HUB)
    assert condition(made, "FlagshipAvailable")["reason"] == reasons.ARCHITECTURE_UNSUPPORTED
    assert made.status["plan"]["flagship"]["help"] == []


def test_what_would_help_is_worked_out_by_the_checkpoint() -> None:
    # The preset in the FP8 that the object names would fit two of these GPUs.
    made = cluster(2, flagship=HUB)
    made.facts = facts("glm-4.6v") | {"commit": COMMIT}
    for _ in range(10):
        made.reconcile()
        made.advance(5)
    planned = made.status["plan"]["flagship"]
    assert condition(made, "Planned")["reason"] == reasons.DOES_NOT_FIT
    assert planned["help"][0].startswith("a checkpoint in FP8")
    assert (planned["quantization"], planned["checkpointBytes"]) == (
        "BF16",
        facts("glm-4.6v")["bytes"],
    )
    assert "the checkpoint is BF16" in planned["warnings"][0]


def test_an_automatic_format_that_nobody_read_counts_as_the_largest() -> None:
    model = HUB["model"] | {"quantization": "Auto"}
    made = cluster(8, flagship={"model": model}, mode="Plan")
    made.reconcile()
    planned = made.status["plan"]["flagship"]
    assert planned["quantization"] == "BF16"
    assert "model.quantization is Auto" in planned["warnings"][0]
