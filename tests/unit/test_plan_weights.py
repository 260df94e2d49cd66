"""Weights in the plan: read first, fetched before the pod, preferred, given back."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.api import names, reasons
from glm_operator.manifests.weights_task import TaskKind
from glm_operator.plan.observed import Defaults, JobPhase, WeightsJob
from plan_builders import HUB, OFF, SMALL, cluster, condition, settled

COMMIT = "c" * 40
KEY = "zai-org--GLM-4.6V-FP8--cccccccccccc"
SMALL_KEY = "zai-org--Flash--cccccccccccc"


def jobs(made: ModelCluster, kind: TaskKind) -> list[WeightsJob]:
    return [one for one in made.jobs.values() if one.task.kind is kind]


def child(made: ModelCluster, kind: str) -> list[dict[str, Any]]:
    return [one for (found, _), one in made.children.items() if found == kind]


def keeps(made: ModelCluster) -> dict[str, list[str]]:
    """What is kept on each node."""
    found: dict[str, list[str]] = {}
    for volume in child(made, "PersistentVolume"):
        notes = volume["metadata"]["annotations"]
        kept = found.setdefault(notes[names.ANNOTATION_NODE], [])
        kept.extend(notes[names.ANNOTATION_KEEP].split())
    return {node: sorted(kept, reverse=True) for node, kept in found.items()}


def weights_of(made: ModelCluster, tier: str = "flagship") -> dict[str, Any]:
    found: dict[str, Any] = made.status["tiers"][tier]["weights"]
    return found


def advance_until(made: ModelCluster, kind: TaskKind) -> None:
    """Reconcile until a Job of a kind is there."""
    for _ in range(10):
        made.reconcile()
        if jobs(made, kind):
            return
        made.advance(5)
    raise AssertionError(f"no {kind} Job came")


# Reading.


def test_a_checkpoint_is_read_before_anything_else_is_made() -> None:
    made = cluster(8, flagship=HUB)
    made.reconcile()
    assert [one.task.kind for one in made.jobs.values()] == [TaskKind.READ]
    assert not made.pods
    assert not child(made, "Deployment")
    assert condition(made, "Planned")["reason"] == reasons.READING_CHECKPOINT


def test_the_commit_is_recorded_and_the_reading_job_goes() -> None:
    made = settled(8, flagship=HUB)
    assert [one.data["model_revision"] for one in made.revisions.values()] == [COMMIT]
    assert not jobs(made, TaskKind.READ)


def test_what_cannot_be_read_starts_nothing_and_says_why() -> None:
    made = cluster(8, flagship=HUB)
    made.failing = {"": reasons.TOKEN_REFUSED}
    made.reconcile()
    made.advance(10)
    made.reconcile()
    planned = condition(made, "Planned")
    assert (planned["reason"], made.pods) == (reasons.TOKEN_REFUSED, {})
    assert "TokenRefused it is." in planned["message"]


def test_what_could_not_be_read_is_tried_again_later_and_less_often() -> None:
    made = cluster(8, flagship=HUB)
    made.failing = {"": reasons.HUB_UNREACHABLE}
    attempts = []
    for _ in range(60):
        made.reconcile()
        attempts.append(max(one.task.attempt for one in made.jobs.values()))
        made.advance(10)
    assert attempts[2:6] == [0, 0, 1, 1]
    assert attempts[-1] == 4
    assert len(made.jobs) == 1


def test_a_new_secret_is_tried_at_once() -> None:
    made = cluster(8, flagship=HUB)
    made.failing = {"": reasons.TOKEN_REFUSED}
    made.reconcile()
    made.advance(10)
    made.reconcile()
    made.failing = {}
    made.edit(tiers__flagship__weights={"secretRef": "hub"})
    made.reconcile()
    assert [(one.task.secret, one.task.attempt) for one in made.jobs.values()] == [("hub", 1)]


def test_an_edit_to_a_checkpoint_that_cannot_be_read_leaves_what_runs() -> None:
    made = settled(8, flagship=HUB)
    before = set(made.pods)
    made.failing = {"": reasons.CHECKPOINT_NOT_FOUND}
    made.edit(tiers__flagship__model=HUB["model"] | {"revision": "none"})
    for _ in range(5):
        made.reconcile()
        made.advance(5)
    assert set(made.pods) == before
    assert condition(made, "Planned")["reason"] == reasons.CHECKPOINT_NOT_FOUND


def test_a_preset_that_is_believed_needs_no_reading_where_the_commit_is_known() -> None:
    tier = HUB | {"weights": {"prePull": "Disabled"}}
    tier["model"] = HUB["model"] | {"revision": COMMIT}
    made = cluster(8, flagship=tier)
    made.reconcile()
    assert [one.task.kind for one in made.jobs.values()] == [TaskKind.FETCH]


def test_mode_plan_makes_no_job() -> None:
    made = cluster(8, flagship=HUB, mode="Plan")
    made.reconcile()
    assert (made.jobs, made.pods) == ({}, {})
    assert condition(made, "Planned")["reason"] == reasons.FITS


# Fetching.


def test_weights_are_on_the_node_before_the_pod() -> None:
    made = cluster(8, flagship=HUB)
    advance_until(made, TaskKind.FETCH)
    assert not made.pods
    assert condition(made, "FlagshipAvailable")["reason"] == reasons.FETCHING_WEIGHTS
    assert weights_of(made)["copies"][0]["place"] == "node-1"
    made.settle()
    assert len(made.pods) == 1
    assert weights_of(made)["copies"][0]["state"] == "Ready"


def test_three_replicas_on_two_nodes_are_two_fetches() -> None:
    made = settled(4, 2, flagship=HUB | {"replicas": 3, "parallelism": {"tensor": "2"}})
    assert len(made.pods) == 3
    assert sorted(made.fetched) == [("node-1", KEY), ("node-2", KEY)]


def test_a_pod_mounts_the_copy_of_its_node_and_keeps_what_it_compiles() -> None:
    made = settled(8, flagship=HUB)
    claims = {one["metadata"]["name"] for one in child(made, "PersistentVolumeClaim")}
    volumes = child(made, "PersistentVolume")
    assert {one["spec"]["claimRef"]["name"] for one in volumes} == claims
    assert keeps(made)["node-1"][0] == f"weights/{KEY}"
    assert keeps(made)["node-1"][1].startswith("compile/")


def test_a_replica_goes_where_the_weights_are() -> None:
    made = settled(2, 2, 2, flagship=None, flash=SMALL | OFF)
    home = next(iter(made.pods.values())).node
    made.edit(tiers__flash__replicas=2)
    made.reconcile()
    assert {one.node for one in made.pods.values()} == {home}


def test_a_second_replica_waits_for_a_node_without_weights() -> None:
    made = settled(1, 1, flagship=None, flash=SMALL | OFF)
    made.edit(tiers__flash__replicas=2)
    made.reconcile()
    assert len(made.pods) == 1
    assert condition(made, "Progressing")["reason"] == reasons.FETCHING_WEIGHTS
    made.settle()
    assert len(made.pods) == 2


def test_a_disk_that_is_too_small_sends_the_replica_to_another_node() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    made.failing = {"node-1": reasons.DISK_TOO_SMALL}
    made.settle()
    assert [one.node for one in made.pods.values()] == ["node-2"]


def test_a_token_that_is_refused_is_not_tried_on_every_node() -> None:
    made = cluster(1, 1, 1, flagship=None, flash=SMALL | OFF)
    made.failing = dict.fromkeys(("node-1", "node-2", "node-3"), reasons.TOKEN_REFUSED)
    for _ in range(10):
        made.reconcile()
        made.advance(5)
    assert len({node for node, _ in made.fetched}) == 1
    assert condition(made, "FlashAvailable")["reason"] == reasons.TOKEN_REFUSED
    assert condition(made, "Degraded")["reason"] == reasons.TOKEN_REFUSED


def test_a_node_that_is_lost_while_it_fetches_gives_way_to_another() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    advance_until(made, TaskKind.FETCH)
    lost = jobs(made, TaskKind.FETCH)[0].task.node
    made.set_node(lost, ready=False)
    for _ in range(20):
        made.reconcile()
        made.advance(5)
    assert [one.node for one in made.pods.values()] == [
        {"node-1", "node-2"}.difference({lost}).pop()
    ]


def test_a_node_made_anew_under_its_old_name_holds_nothing() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    made.pods.clear()
    made.nodes["node-1"] = replace(made.nodes["node-1"], uid="another")
    made.reconcile()
    assert not made.pods
    made.settle()
    assert len(made.pods) == 1
    assert len(made.fetched) == 2


def test_a_copy_that_vanished_is_fetched_again_without_a_new_pod() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    name = next(iter(made.pods))
    lacks = "failed to create subPath directory for volumeMount"
    made.change(
        name, waiting_reason="CreateContainerConfigError", waiting_message=lacks, container_id=""
    )
    wait = made.reconcile().requeue_after_seconds
    assert wait is not None
    assert 0 < wait <= 45
    made.advance(wait)
    made.reconcile()
    assert [one.task.attempt for one in jobs(made, TaskKind.FETCH)] == [1]
    assert list(made.pods) == [name]


def test_a_copy_that_vanished_from_a_claim_is_fetched_again() -> None:
    weights = {"cache": "PersistentVolumeClaim", "claimName": "models"}
    made = settled(1, flagship=None, flash=SMALL | OFF | {"weights": weights})
    made.advance(100)
    lacks = "failed to create subPath directory for volumeMount"
    (name,) = made.pods
    made.change(
        name, waiting_reason="CreateContainerConfigError", waiting_message=lacks, container_id=""
    )
    made.reconcile()
    assert [one.task.attempt for one in jobs(made, TaskKind.FETCH)] == [1]


@pytest.mark.parametrize(
    ("pod", "told"),
    [("", "kubectl describe job vision-weights-"), ("p", "kubectl describe pod p says")],
    ids=["no pod was made", "its pod does not start"],
)
def test_a_job_that_does_not_start_says_where_to_look_after_half_a_minute(
    pod: str, told: str
) -> None:
    made = cluster(1, flagship=None, flash=SMALL | OFF)
    advance_until(made, TaskKind.FETCH)
    (job,) = jobs(made, TaskKind.FETCH)
    made.jobs[job.name] = replace(job, pod=pod)
    made.now += 29
    result = made.reconcile()
    assert told not in condition(made, "FlashAvailable")["message"]
    assert result.requeue_after_seconds == 1
    made.now += 1
    made.reconcile()
    found = condition(made, "FlashAvailable")
    assert (found["reason"], told in found["message"]) == (reasons.WEIGHTS_JOB_BLOCKED, True)


def test_a_claim_that_somebody_deleted_is_made_again_with_its_volume() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    before = set(made.children)
    for claim in child(made, "PersistentVolumeClaim"):
        claim["metadata"]["deletionTimestamp"] = "2026-11-25T07:00:00Z"
    # The pod of the Job that is done holds the claim, and so does the replica until it ends.
    done = jobs(made, TaskKind.FETCH)
    made.reconcile()
    assert not set(made.jobs) & {one.name for one in done}
    made.reconcile()
    assert [one.phase for one in jobs(made, TaskKind.FETCH)] == [JobPhase.WAITING]
    for claim in child(made, "PersistentVolumeClaim"):
        del made.children["PersistentVolumeClaim", claim["metadata"]["name"]]
    for volume in child(made, "PersistentVolume"):
        volume["status"] = {"phase": "Released"}
    made.settle()
    assert set(made.children) == before
    assert not any("status" in volume for volume in child(made, "PersistentVolume"))


# Rollouts.


def test_a_rollout_brings_the_new_weights_while_the_old_engine_serves() -> None:
    made = settled(4, flagship=HUB)
    old = next(iter(made.pods))
    made.facts = {"commit": "d" * 40}
    made.edit(tiers__flagship__model=HUB["model"] | {"revision": "next"})
    for _ in range(3):
        made.reconcile()
        assert made.pods[old].draining_since is None
        made.advance(5)
    made.settle()
    assert old not in made.pods
    assert keeps(made)["node-1"][0] == "weights/zai-org--GLM-4.6V-FP8--dddddddddddd"


def test_old_weights_are_kept_as_long_as_a_replica_runs_on_them() -> None:
    made = settled(8, flagship=HUB)
    made.facts = {"commit": "d" * 40}
    made.edit(tiers__flagship__model=HUB["model"] | {"revision": "next"})
    while len(made.pods) < 2:
        made.reconcile()
        made.advance(5)
    made.reconcile()
    assert {f"weights/{KEY}", "weights/zai-org--GLM-4.6V-FP8--dddddddddddd"} <= set(
        keeps(made)["node-1"]
    )


# Ahead of the load.


def test_flash_gets_its_weights_ahead_where_it_may_grow_one_node_at_a_time() -> None:
    made = cluster(1, 1, 1, 1, flagship=None, flash=SMALL | {"scaling": {"maxReplicas": 3}})
    moving = []
    for _ in range(40):
        made.reconcile()
        moving.append(sum(one.phase is not JobPhase.DONE for one in jobs(made, TaskKind.FETCH)))
        made.advance(5)
    assert len({node for node, _ in made.fetched}) == 3
    assert max(moving) == 1


def test_nothing_is_fetched_ahead_where_the_object_says_so() -> None:
    tier = SMALL | {"scaling": {"maxReplicas": 3}, "weights": {"prePull": "Disabled"}}
    made = settled(1, 1, 1, flagship=None, flash=tier)
    assert len(made.fetched) == 1


# Other places.


def test_one_copy_in_a_claim_serves_all_nodes() -> None:
    weights = {"cache": "PersistentVolumeClaim", "claimName": "models"}
    made = settled(1, 1, flagship=None, flash=SMALL | OFF | {"weights": weights, "replicas": 2})
    assert len(made.pods) == 2
    assert made.fetched == [("", SMALL_KEY)]
    assert not child(made, "PersistentVolume")


def test_an_engine_that_downloads_by_itself_needs_no_volume() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF | {"weights": {"cache": "Ephemeral"}})
    assert (made.fetched, len(made.pods)) == ([], 1)


def test_a_folder_of_the_nodes_is_checked_on_each() -> None:
    tier = SMALL | OFF | {"replicas": 2}
    tier["model"] = SMALL["model"] | {"uri": "file:///data/models/flash"}
    made = cluster(1, 1, flagship=None, flash=tier)
    made.defaults = Defaults(node_paths=("/data/models",))
    made.settle()
    assert len(made.pods) == 2
    assert {one.task.node for one in jobs(made, TaskKind.CHECK)} == {"node-1", "node-2"}
    paths = {one["spec"]["local"]["path"] for one in child(made, "PersistentVolume")}
    assert paths == {"/data/models/flash"}


@pytest.mark.parametrize("path", ["/data/modelsx/flash", "/etc", "/data"])
def test_a_folder_that_the_platform_does_not_allow_is_refused(path: str) -> None:
    tier = SMALL | {"model": SMALL["model"] | {"uri": f"file://{path}"}}
    made = cluster(1, flagship=None, flash=tier)
    made.defaults = Defaults(node_paths=("/data/models",))
    made.reconcile()
    assert condition(made, "Planned")["reason"] == reasons.NODE_PATH_NOT_ALLOWED
    assert not made.jobs


def test_a_platform_that_keeps_nothing_on_nodes_says_so() -> None:
    made = cluster(1, flagship=None, flash=SMALL)
    made.defaults = Defaults(node_local=False)
    made.reconcile()
    assert condition(made, "Planned")["reason"] == reasons.NODE_CACHE_DISABLED


# Who comes first.


def test_room_is_kept_where_weights_are_on_their_way() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    advance_until(made, TaskKind.FETCH)
    place = jobs(made, TaskKind.FETCH)[0].task.node
    assert [claim.homes for claim in made.plan().claims] == [frozenset({place})]


def test_every_job_of_an_object_says_what_it_does() -> None:
    made = settled(8, flagship=HUB)
    notes = [one["metadata"]["annotations"] for one in child(made, "Job")]
    kinds = {json.loads(one[names.ANNOTATION_TASK])["kind"] for one in notes}
    assert kinds == {"Fetch"}
