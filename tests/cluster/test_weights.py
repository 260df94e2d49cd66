"""Weights on the real cluster: the real hub client, real volumes, the chart's own rights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from glm_dev.hub.repository import Access
from glm_dev.kubectl import KubectlError
from glm_dev.site import SYSTEM
from glm_operator.api import reasons
from weights_stage import KEY_START, Json, Room, WeightsStage, weights_stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeightsStage]:
    with weights_stage(tmp_path_factory.mktemp("weights")) as made:
        yield made


@pytest.fixture
def room(stage: WeightsStage) -> Iterator[Room]:
    with stage.room() as made:
        yield made


def test_three_replicas_on_two_nodes_take_one_download_for_each_node(
    stage: WeightsStage, room: Room
) -> None:
    commit = stage.publish()
    room.apply(replicas=3)
    room.wait("Ready", "True")
    room.until("three engines", lambda: len(room.engines()) == 3)
    assert set(stage.downloads().values()) == {2}
    key = f"{KEY_START}{commit[:12]}"
    assert stage.copies(room.namespace) == {node: [key] for node in stage.nodes()}
    assert room.weights()["commit"] == commit
    assert [one["state"] for one in room.weights()["copies"]] == ["Ready", "Ready"]
    assert len(room.events(reasons.WEIGHTS_FETCHED)) == 2


def test_a_download_that_was_killed_goes_on_where_it_was(stage: WeightsStage, room: Room) -> None:
    stage.publish()
    shard = stage.largest_shard()
    stage.hub.faults.hold_after[shard.name] = shard.size // 2
    room.apply()
    assert stage.hub.faults.held.wait(90)
    stage.end_pod(room.job_pods()[0])
    stage.hub.faults.hold_after.clear()
    stage.hub.faults.release.set()
    room.wait("Ready", "True")
    assert [one for one in stage.ranges(shard.name) if one > 0]


def test_a_damaged_shard_is_named_and_fetched_again_later(stage: WeightsStage, room: Room) -> None:
    commit = stage.publish()
    shard = stage.largest_shard()
    stage.hub.faults.corrupt[shard.name] = 1000
    room.apply()
    found = room.wait("FlashAvailable", "False", reasons.FILE_DAMAGED)
    assert shard.name in room.message(found, "FlashAvailable")
    assert room.engines() == []
    assert [one for one in room.events(reasons.FILE_DAMAGED) if shard.name in one]
    stage.hub.faults.corrupt.clear()
    room.wait("Ready", "True")
    assert stage.copies(room.namespace)[room.home()] == [f"{KEY_START}{commit[:12]}"]


def test_a_disk_that_is_too_small_is_told_before_the_first_byte_and_another_node_taken(
    stage: WeightsStage, room: Room
) -> None:
    stage.publish()
    with stage.small_disk("node-1", room.namespace, 3_000_000):
        room.apply(placement={"nodeNames": ["node-1"]})
        found = room.wait("FlashAvailable", "False", reasons.DISK_TOO_SMALL)
        assert "node-1" in room.message(found, "FlashAvailable")
        assert stage.downloads() == {}
        room.apply()
        room.wait("Ready", "True")
        assert room.home() == "node-2"


def test_a_node_that_is_lost_during_the_download_gives_way_to_another(
    stage: WeightsStage, room: Room
) -> None:
    stage.publish()
    shard = stage.largest_shard()
    stage.hub.faults.hold_after[shard.name] = shard.size // 2
    room.apply()
    assert stage.hub.faults.held.wait(90)
    lost = room.job_pods()[0]["spec"]["nodeName"]
    local = stage.site.local
    assert local is not None
    local.node_down(lost)
    try:
        stage.hub.faults.hold_after.clear()
        stage.hub.faults.release.set()
        room.wait("Ready", "True")
        assert room.home() != lost
    finally:
        local.node_up(lost)
        stage.wait_for_gpus()


def test_an_object_deleted_during_the_download_leaves_nothing_behind(
    stage: WeightsStage, room: Room
) -> None:
    stage.publish()
    shard = stage.largest_shard()
    stage.hub.faults.hold_after[shard.name] = shard.size // 2
    room.apply()
    assert stage.hub.faults.held.wait(90)
    assert [kind for kind, found in stage.copies(room.namespace, "fetching").items() if found]
    room.delete()
    room.until("the Jobs to go", lambda: not room.jobs())
    room.until("the claims to go", lambda: not room.list("pvc"))
    room.until("the volumes to go", lambda: not room.volumes(), 150)
    room.until("the disks to be empty", lambda: not stage.anything(room.namespace), 60)


def test_whatever_a_team_left_in_its_folder_goes_and_nothing_beside_it(
    stage: WeightsStage, room: Room
) -> None:
    stage.publish()
    room.apply()
    room.wait("Ready", "True")
    restarts = stage.agent_restarts()
    folder = stage.disk(room.home(), room.namespace)
    beside = folder.parent / "of-somebody-else"
    beside.mkdir()
    stage.leave_sticky_folder(folder / "weights" / "trap")
    (folder / "link").symlink_to(beside)
    room.delete()
    room.until("the volumes to go", lambda: not room.volumes(), 150)
    room.until("the disks to be empty", lambda: not stage.anything(room.namespace), 60)
    assert beside.is_dir()
    beside.rmdir()
    assert stage.agent_restarts() == restarts


def test_a_new_revision_rolls_out_and_the_old_copy_is_removed(
    stage: WeightsStage, room: Room
) -> None:
    first = stage.publish()
    room.apply()
    room.wait("Ready", "True")
    pod = room.engines()[0]["metadata"]["uid"]
    second = stage.publish(seed=1)
    assert first != second
    model = {"preset": "GLM-4.6V-Flash", "uri": "hf://org/flash", "quantization": "Auto"}
    room.apply(model=model, drain={"timeoutSeconds": 6})
    room.wait("Ready", "True")
    assert [one["metadata"]["uid"] for one in room.engines()] == [pod]
    room.apply(model=model | {"revision": "main"})
    room.until("the new commit", lambda: room.weights().get("commit") == second)
    room.wait("Ready", "True")
    room.until("the old engine to go", lambda: len(room.engines()) == 1)
    wanted = [f"{KEY_START}{second[:12]}"]
    room.until("the old copy to go", lambda: stage.copies(room.namespace)[room.home()] == wanted)


def test_a_gated_repository_needs_a_token_and_heals_when_it_comes(
    stage: WeightsStage, room: Room
) -> None:
    stage.publish(access=Access.GATED, readers=["hf_reader"])
    room.apply()
    found = room.wait("Planned", "False", reasons.TOKEN_REFUSED)
    assert "weights.secretRef" in room.message(found, "Planned")
    assert room.engines() == []
    room.secret("hub", HF_ENDPOINT=room.endpoint, HF_TOKEN="hf_reader")
    room.wait("Ready", "True")


def test_a_secret_that_is_not_there_is_named(stage: WeightsStage, room: Room) -> None:
    stage.publish()
    room.apply(weights={"secretRef": "forgotten"})
    found = room.wait("Planned", "False", reasons.WEIGHTS_JOB_BLOCKED)
    assert 'secret "forgotten" not found' in room.message(found, "Planned")


def test_a_copy_that_vanished_from_the_disk_is_fetched_again(
    stage: WeightsStage, room: Room
) -> None:
    commit = stage.publish()
    room.apply()
    room.wait("Ready", "True")
    shutil.rmtree(stage.disk(room.home(), room.namespace) / "weights")
    stage.end_pod(room.engines()[0])
    room.wait("Ready", "True", timeout=240)
    assert stage.copies(room.namespace)[room.home()] == [f"{KEY_START}{commit[:12]}"]


def test_one_team_never_reads_the_copy_of_another(stage: WeightsStage, room: Room) -> None:
    stage.publish()
    room.apply()
    room.wait("Ready", "True")
    mode = stage.disk(room.home(), room.namespace).stat().st_mode & 0o777
    assert mode == 0o770
    paths = {one["spec"]["local"]["path"] for one in room.volumes()}
    assert paths == {f"/var/lib/glm-operator/{room.namespace}"}


def test_a_folder_of_the_nodes_is_checked_and_mounted(stage: WeightsStage, room: Room) -> None:
    stage.publish()
    with stage.node_folder("flash") as path:
        model = {"preset": "GLM-4.6V-Flash", "uri": f"file://{path}", "quantization": "Auto"}
        room.apply(model=model)
        room.wait("Ready", "True")
        (pod,) = room.engines()
        mounts = pod["spec"]["containers"][0]["volumeMounts"]
        assert [one["readOnly"] for one in mounts if one["mountPath"] == "/weights"] == [True]


def test_one_copy_in_a_shared_claim_serves_every_node(stage: WeightsStage, room: Room) -> None:
    stage.publish()
    with stage.shared_claim(room.namespace, "models"):
        weights = {"cache": "PersistentVolumeClaim", "claimName": "models", "secretRef": "hub"}
        room.apply(weights=weights, replicas=3)
        room.wait("Ready", "True")
        room.until("three engines", lambda: len(room.engines()) == 3)
        assert set(stage.downloads().values()) == {1}


@pytest.mark.parametrize(
    "source",
    [{"hostPath": {"path": "/etc"}}, {"local": {"path": "/etc"}}],
    ids=["another type", "another folder"],
)
def test_the_operator_may_make_no_other_volumes(stage: WeightsStage, source: Json) -> None:
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [where]}]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "nodeAffinity": {"required": terms},
    }
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "stolen"},
        "spec": spec | source,
    }
    account = f"system:serviceaccount:{SYSTEM}:glm-operator"
    command = ("create", "--as", account, "-f", "-")
    with pytest.raises(KubectlError, match="the operator makes volumes of"):
        stage.site.kubectl.run(*command, stdin=json.dumps(manifest))
