"""Weights in the plan when something is amiss: blocked, refused, vanished, withdrawn."""

from __future__ import annotations

import json
from dataclasses import replace

from cluster_model import ModelCluster
from glm_operator.api import names, reasons
from glm_operator.manifests.weights_task import TaskKind
from glm_operator.plan.observed import Defaults, JobPhase, Progress, WeightsJob
from glm_operator.plan.room import ZONE_LABEL
from plan_builders import GPU, HUB, OFF, SMALL, cluster, condition, settled
from recorded_facts import facts

FLAGSHIP_OF_NEXT = SMALL["model"] | {"revision": "next"}

NEXT = SMALL["model"] | {"revision": "next"}


def jobs(made: ModelCluster, kind: TaskKind = TaskKind.FETCH) -> list[WeightsJob]:
    return [one for one in made.jobs.values() if one.task.kind is kind]


def go_on(made: ModelCluster, rounds: int = 60, seconds: float = 5) -> None:
    for _ in range(rounds):
        made.reconcile()
        made.advance(seconds)


def homes(made: ModelCluster) -> set[str]:
    """The nodes of the replicas."""
    return {one.node for one in made.pods.values()}


def kept_on(made: ModelCluster, node: str) -> str:
    """What the volumes of a node keep there."""
    volumes = (one for (kind, _), one in made.children.items() if kind == "PersistentVolume")
    notes = [one["metadata"]["annotations"] for one in volumes]
    mine = (one for one in notes if one[names.ANNOTATION_NODE] == node)
    return " ".join(one[names.ANNOTATION_KEEP] for one in mine)


def put_into_zones(made: ModelCluster, **zones: str) -> None:
    for name, zone in zones.items():
        node = name.replace("_", "-")
        made.set_node(node, labels={**made.nodes[node].labels, ZONE_LABEL: zone})


# Disks that cannot take a copy.


def test_a_disk_that_is_too_small_counts_more_than_a_zone_without_replicas() -> None:
    made = cluster(1, 1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 2})
    put_into_zones(made, node_1="a", node_2="b", node_3="a")
    made.failing = {"node-2": reasons.DISK_TOO_SMALL}
    go_on(made)
    assert homes(made) == {"node-1", "node-3"}


def test_a_rollout_goes_on_elsewhere_where_one_disk_does_not_hold_both_revisions() -> None:
    for small in ("node-1", "node-2"):
        made = settled(1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 2})
        (old,) = {one.revision for one in made.pods.values()}
        made.facts, made.failing = {"commit": "d" * 40}, {small: reasons.DISK_TOO_SMALL}
        made.edit(tiers__flash__model=NEXT)
        go_on(made, 100)
        assert {one.node for one in made.pods.values() if one.revision == old} == {small}


def test_a_rollout_prepares_one_node_at_a_time_whoever_is_least_busy() -> None:
    made = settled(1, 1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 3})
    made.facts = {"commit": "d" * 40}
    made.edit(tiers__flash__model=NEXT)
    replicas, moving = sorted(made.pods), []
    for turn in range(6):
        made.in_flight = {name: 5 * (index != turn % 3) for index, name in enumerate(replicas)}
        made.reconcile()
        moving.append(sum(one.phase is not JobPhase.DONE for one in jobs(made)))
        made.advance(3)
    assert max(moving) == 1


def test_disks_that_are_all_too_small_are_tried_less_and_less_often() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    made.failing = dict.fromkeys(("node-1", "node-2"), reasons.DISK_TOO_SMALL)
    go_on(made, 720)
    assert len(made.fetched) < 20


def test_a_disk_that_failed_is_no_trouble_of_a_tier_that_serves_elsewhere() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    made.failing = {"node-1": reasons.DISK_TOO_SMALL}
    go_on(made, 20)
    assert condition(made, "Degraded")["reason"] == reasons.HEALTHY


# Jobs that cannot start.


def block(made: ModelCluster, name: str, why: str) -> None:
    """Let the pod of a Job be refused by the kubelet or the scheduler."""
    if name in made.jobs:
        waits = replace(made.jobs[name], phase=JobPhase.WAITING, finished_at=None, blocked=why)
        made.jobs[name] = replace(waits, waiting_since=waits.created_at)


def test_a_pod_that_was_just_made_is_not_called_blocked_while_its_volume_is_made() -> None:
    made = cluster(8, flagship=None, flash=SMALL | OFF)
    made.reconcile()
    (job,) = made.jobs.values()
    told = []
    for _ in range(2):
        block(made, job.name, "pod has unbound immediate PersistentVolumeClaims")
        made.reconcile()
        told.append(condition(made, "Planned")["reason"])
        made.advance(11)
    assert told == [reasons.READING_CHECKPOINT, reasons.WEIGHTS_JOB_BLOCKED]


def test_a_secret_whose_name_is_corrected_is_used_though_the_job_never_started() -> None:
    made = cluster(8, flagship=None, flash=SMALL | OFF | {"weights": {"secretRef": "typo"}})
    made.reconcile()
    (job,) = made.jobs.values()
    block(made, job.name, 'CreateContainerConfigError: secret "typo" not found')
    made.edit(tiers__flash__weights={"secretRef": "hub"})
    made.reconcile()
    assert [one.task.secret for one in made.jobs.values()] == ["hub"]


def test_a_job_that_cannot_start_on_a_node_keeps_no_replica_from_another() -> None:
    made = cluster(1, 1, flagship=None, flash=SMALL | OFF)
    go_on(made, 3)
    (job,) = jobs(made)
    for _ in range(20):
        made.reconcile()
        made.advance(5)
        block(made, job.name, "ErrImagePull: no space left on device")
    assert homes(made) == {"node-1", "node-2"} - {job.task.node}
    assert condition(made, "Degraded")["reason"] == reasons.HEALTHY


def test_a_job_of_an_image_that_cannot_be_pulled_is_made_anew_of_another() -> None:
    made = cluster(1, flagship=None, flash=SMALL | OFF)
    made.reconcile()
    (job,) = made.jobs.values()
    made.advance(11)
    block(made, job.name, "ErrImagePull: not found")
    made.defaults = Defaults(weights_image="another")
    made.reconcile()
    made.reconcile()
    (live,) = (one for (kind, _), one in made.children.items() if kind == "Job")
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "another"


# A hub that does not answer.


def suffer(made: ModelCluster, name: str, trouble: str) -> None:
    """Let the pod of a Job run and tell that it does not get on."""
    if name in made.jobs:
        progress = Progress("Fetching", 1_500, 2_000_000, 0, trouble)
        runs = replace(made.jobs[name], phase=JobPhase.RUNNING, progress=progress)
        made.jobs[name] = replace(runs, finished_at=None)


def test_a_checkpoint_that_the_hub_does_not_give_says_so_while_it_is_tried() -> None:
    made = cluster(8, flagship=None, flash=SMALL | OFF)
    made.reconcile()
    (job,) = made.jobs.values()
    suffer(made, job.name, "the hub does not answer.")
    made.reconcile()
    planned = condition(made, "Planned")
    assert planned["reason"] == reasons.HUB_UNREACHABLE
    assert planned["message"].count("the hub does not answer") == 1


def test_a_copy_that_does_not_come_says_why_and_how_far_it_is() -> None:
    made = cluster(8, flagship=None, flash=SMALL | OFF)
    go_on(made, 3)
    (job,) = jobs(made)
    suffer(made, job.name, "the hub does not answer.")
    made.reconcile()
    degraded = condition(made, "Degraded")
    assert degraded["reason"] == reasons.HUB_UNREACHABLE
    assert "waits (1.5 kB of 2.0 MB): the hub does not answer" in degraded["message"]


# Copies that vanish.


def lose_copy(made: ModelCluster, mount: str = "weights") -> None:
    """Let the kubelet not find what the only replica mounts."""
    message = f'failed to prepare subPath for volumeMount "{mount}" of container "engine"'
    for name in made.pods:
        made.change(name, waiting_reason="CreateContainerConfigError", waiting_message=message)


def test_a_copy_that_is_never_found_is_fetched_less_and_less_often() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    for _ in range(720):
        lose_copy(made)
        made.reconcile()
        made.advance(5)
    assert len(made.fetched) < 14


def test_a_compile_cache_that_cannot_be_mounted_is_no_lost_copy() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    lose_copy(made, "compile")
    go_on(made, 30)
    assert len(made.fetched) == 1


def test_a_lost_copy_leaves_those_of_other_checkpoints_on_its_node_alone() -> None:
    made = settled(8, flagship=HUB, flash=SMALL | OFF)
    (name,) = (one.name for one in made.of("flagship"))
    message = 'failed to prepare subPath for volumeMount "weights" of container "engine"'
    made.change(name, waiting_reason="CreateContainerConfigError", waiting_message=message)
    go_on(made, 15)
    assert {one.task.uri: one.task.attempt for one in jobs(made)} == {
        HUB["model"]["uri"]: 1,
        SMALL["model"]["uri"]: 0,
    }


# Modes, tiers and the platform.


def test_a_paused_object_keeps_no_jobs_that_failed_before() -> None:
    made = cluster(8, flagship=None, flash=SMALL | OFF, mode="Paused")
    made.failing = {"": reasons.TOKEN_REFUSED}
    go_on(made, 60, 10)
    assert len(made.jobs) == 1


def test_a_copy_that_comes_to_a_known_node_while_paused_is_kept_there() -> None:
    made = settled(1, 4, flagship=HUB, flash=SMALL | OFF)
    assert {one.node for one in made.of("flash")} == {"node-1"}
    made.set_node("node-2", allocatable={GPU: 8})
    made.edit(mode="Paused")
    del made.nodes["node-1"]
    for one in made.of("flash"):
        del made.pods[one.name]
    go_on(made, 20)
    assert {one.node for one in made.of("flash")} == {"node-2"}
    assert "Flash" in kept_on(made, "node-2")


def test_copies_of_a_tier_that_is_removed_while_paused_stay_with_its_replicas() -> None:
    made = settled(8, flagship=HUB, flash=SMALL | OFF)
    made.edit(mode="Paused")
    del made.spec["tiers"]["flash"]
    go_on(made, 5)
    assert made.of("flash")
    assert "Flash" in kept_on(made, "node-1")


def test_each_of_two_tiers_of_one_checkpoint_tells_of_its_copy() -> None:
    text = {"model": HUB["model"] | {"preset": "GLM-4.6"}}
    made = cluster(8, 8, flagship=HUB, text=text)
    made.failing = dict.fromkeys(("node-1", "node-2"), reasons.TOKEN_REFUSED)
    go_on(made, 6)
    for tier in ("flagship", "text"):
        assert made.status["tiers"][tier]["weights"]["copies"][0]["state"] == "Failed"


def test_a_folder_that_the_platform_allows_no_longer_gets_no_new_replica() -> None:
    made = cluster(
        1, 1, flagship=None, flash=SMALL | OFF | {"model": SMALL["model"] | {"uri": "file:///d/f"}}
    )
    made.defaults = Defaults(node_paths=("/d",))
    made.settle()
    made.defaults = Defaults()
    made.edit(tiers__flash__replicas=2)
    go_on(made, 6)
    assert len(made.routable("flash")) == len(made.pods) == 1
    assert condition(made, "Planned")["reason"] == reasons.NODE_PATH_NOT_ALLOWED


def test_a_platform_that_moves_its_folder_leaves_the_volumes_that_there_are() -> None:
    made = settled(1, flagship=None, flash=SMALL | OFF)
    made.defaults = Defaults(node_root="/elsewhere")
    assert made.plan().actions == ()


def test_a_record_of_another_version_ends_no_plan() -> None:
    made = cluster(8, flagship=HUB)
    made.facts = facts("glm-4.6v-fp8") | {"commit": "c" * 40}
    made.settle()
    (record,) = made.revisions.values()
    told = json.dumps(json.loads(record.data["checkpoint"]) | {"version": 9})
    made.revisions = {record.name: replace(record, data={**record.data, "checkpoint": told})}
    made.reconcile()
    assert len(made.routable("flagship")) == 1


def test_nothing_is_advised_before_the_checkpoint_is_known() -> None:
    made = cluster(1, flagship=HUB)
    made.reconcile()
    assert condition(made, "Planned")["message"].endswith("is read.")
