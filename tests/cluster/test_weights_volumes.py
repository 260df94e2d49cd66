"""What node-local copies rely on: how real kubelets treat our volumes, Jobs and replicas."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api_server import OBJECTS, ApiServer
from control_plane import wait_established
from glm_dev.cluster import ClusterSpec, LocalCluster
from glm_dev.images import build_images
from glm_dev.kubectl import wait_for
from glm_operator.agent.disk import Disk
from glm_operator.api import crd, names, reasons
from glm_operator.kube import convert
from glm_operator.kube.client import KubernetesCluster
from glm_operator.kube.resources import (
    JOB,
    PERSISTENT_VOLUME,
    POD,
    VOLUME_CLAIM,
    Resource,
    resource_of,
)
from glm_operator.kube.transport import Transport
from glm_operator.kube.weights import weights_jobs
from glm_operator.manifests.engine_pod import PodIdentity, engine_pod
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights import (
    COMPILED,
    COPIES,
    WEIGHTS_USER,
    JobSetting,
    claim_name,
    node_claim,
    node_volume,
    volume_name,
    weights_job,
)
from glm_operator.manifests.weights_mount import compile_folder, copy_folder
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan.observed import JobPhase, Replica, WeightsJob
from glm_operator.plan.stock import lacks_copy
from glm_operator.runtime.sweep import sweep
from plan_builders import engine
from reconcile_stage import exists, flash, glm_deployment

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]
IMAGE = "localhost/glm-engine-sim:dev"
ROOT = "/var/lib/glm-operator"
HOSTNAME = "kubernetes.io/hostname"
OTHER_HOSTNAME = "second.example"
NODE, OTHER_NODE = "node-1", "node-2"
GPU = "H100"
COMMIT = "c" * 40
SPEC = engine(uri="hf://org/model", model_revision=COMMIT, cache="NodeLocal", image=IMAGE)
COPY = copy_folder(SPEC)
COMPILE = compile_folder(SPEC, GPU)
WRITE_COPY = f"mkdir -p /cache/{COPY} && echo weights > /cache/{COPY}/model.safetensors"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    archive = build_images(("engine-sim",))["engine-sim"]
    name = f"volumes-{os.getpid()}"
    spec = ClusterSpec(name=name, nodes="2xCPU", images=(archive,), temporary=True)
    with LocalCluster.up(spec) as running:
        running.kubectl.apply(crd.definition())
        # As on clouds where a node's name is not that of its machine.
        label = f"{HOSTNAME}={OTHER_HOSTNAME}"
        running.kubectl.run("label", "node", OTHER_NODE, label, "--overwrite")
        yield running


@pytest.fixture(scope="module")
def api(cluster: LocalCluster) -> Iterator[ApiServer]:
    with closing(ApiServer(cluster.kubeconfig)) as server:
        wait_established(server)
        yield server


@dataclass
class Room:
    """A namespace that enforces Pod Security restricted, for objects that no operator looks at."""

    cluster: LocalCluster
    api: ApiServer
    namespace: str
    owners: dict[str, Owner] = field(default_factory=dict)

    def owner(self, name: str = "vision") -> Owner:
        """An object, made when it is first asked for."""
        if name not in self.owners:
            body = glm_deployment({"flash": flash()}) | {"metadata": {"name": name}}
            stored = self.api.create(OBJECTS.format(self.namespace), body)
            self.owners[name] = Owner(name, self.namespace, stored["metadata"]["uid"])
        return self.owners[name]

    def create(self, manifest: Json) -> Json:
        """Create an object of any kind."""
        return self.api.create(resource_of(manifest).path(self.namespace), manifest)

    def disk(self, node: str = NODE) -> Path:
        """The namespace's folder on a node, seen from this machine."""
        index = int(node.rpartition("-")[2])
        return self.cluster.plan.node_folder(index) / "lib" / "glm-operator" / self.namespace

    @property
    def path(self) -> str:
        """The same folder as volumes name it."""
        return f"{ROOT}/{self.namespace}"

    def prepare(self, node: str = NODE) -> None:
        """What the node agent does."""
        disk = Disk(self.disk(node).parent, WEIGHTS_USER)
        if self.namespace not in disk.present():
            disk.make(self.namespace)

    def volume(
        self, use: str = COPIES, node: str = NODE, *, hostname: str = "", owner: str = "vision"
    ) -> None:
        """A volume of a node, and its claim."""
        mine = self.owner(owner)
        self.create(node_volume(mine, node, hostname or node, self.path, [], use))
        self.create(node_claim(mine, node, use))

    def ready(self, node: str = NODE, *, hostname: str = "", owner: str = "vision") -> str:
        """All that pods of an object need on a node; returns the object's name."""
        self.prepare(node)
        for use in (COPIES, COMPILED):
            self.volume(use, node, hostname=hostname, owner=owner)
        return owner

    def job(self, script: str, node: str = NODE, *, owner: str = "vision", **task: Any) -> str:
        """A Job of ours with a command of the test's; returns its name."""
        asked = WeightsTask(TaskKind.FETCH, SPEC.uri, COMMIT, node, **task)
        manifest = weights_job(self.owner(owner), asked, JobSetting(IMAGE, "Never"))
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        container |= {"command": ["sh", "-euc"], "args": [script]}
        return str(self.create(manifest)["metadata"]["name"])

    def run(self, script: str, node: str = NODE, **options: Any) -> WeightsJob:
        """Such a Job once it is over."""
        return self.end(self.job(script, node, **options))

    def end(self, name: str, timeout: float = 60) -> WeightsJob:
        """A Job once it is over."""

        def ended() -> WeightsJob | None:
            found = self.job_seen(name)
            return found if found.phase in (JobPhase.DONE, JobPhase.FAILED) else None

        return wait_for(f"the end of {name}", ended, timeout, 0.1)

    def job_seen(self, name: str) -> WeightsJob:
        """A Job as the operator sees it."""
        raw = self.api.get(JOB.path(self.namespace, name))
        uid = raw["metadata"]["ownerReferences"][0]["uid"]
        (found,) = weights_jobs([raw], self.all(POD), uid)
        return found

    def replica(self, script: str, node: str = NODE, *, owner: str = "vision") -> str:
        """A replica of ours with a command of the test's and no GPUs; returns its name."""
        identity = PodIdentity(0, node, gpu=GPU)
        manifest = engine_pod(self.owner(owner), SPEC, "rev", identity, "Never")
        (container,) = manifest["spec"]["containers"]
        for part in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "resources"):
            del container[part]
        container |= {"command": ["sh", "-c"], "args": [f"{script}\necho end; exec sleep 3600"]}
        manifest["spec"]["terminationGracePeriodSeconds"] = 1
        return str(self.create(manifest)["metadata"]["name"])

    def seen(self, name: str) -> Replica:
        """A replica as the operator sees it."""
        raw = self.api.get(POD.path(self.namespace, name))
        return convert.replica_of(raw, raw["metadata"]["ownerReferences"][0]["uid"])

    def told(self, name: str, timeout: float = 60) -> list[str]:
        """What a replica printed, once it runs."""
        wait_for(f"{name} to run", lambda: self.seen(name).containers_ready, timeout, 0.1)

        def lines() -> list[str]:
            out = self.cluster.kubectl.run("logs", "-n", self.namespace, name).split("\n")
            return out[: out.index("end") + 1] if "end" in out else []

        return wait_for(f"the output of {name}", lines, 20, 0.1)[:-1]

    def events(self) -> set[str]:
        """Reasons of the namespace's events."""
        found = self.api.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return {one["reason"] for one in found}

    def all(self, kind: Resource) -> list[Json]:
        """All objects of a kind in the namespace."""
        found: list[Json] = self.api.get(kind.path(self.namespace))["items"]
        return found

    def volumes(self) -> list[Json]:
        """The volumes of this namespace."""
        found = self.api.get(PERSISTENT_VOLUME.path())["items"]
        return [one for one in found if one["spec"]["claimRef"]["namespace"] == self.namespace]

    def living(self) -> list[Json]:
        """Those of them that are not being deleted."""
        return [one for one in self.volumes() if "deletionTimestamp" not in one["metadata"]]

    def swept(self) -> int:
        """Sweep as the operator does; returns how many volumes that deleted."""
        cluster = KubernetesCluster(Transport.load(str(self.cluster.kubeconfig), ""))
        with closing(cluster):
            return asyncio.run(sweep(cluster, (self.namespace,)))

    def forget(self, name: str = "vision") -> None:
        """Delete an object."""
        del self.owners[name]
        self.api.delete(f"{OBJECTS.format(self.namespace)}/{name}")


@pytest.fixture
def room(cluster: LocalCluster, api: ApiServer) -> Room:
    name = f"volumes-{next(_numbers)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for("the ServiceAccount", lambda: exists(api, account), 30, every=0.1)
    return Room(cluster, api, name)


# A copy, and those who read it.


def test_a_job_brings_a_copy_that_replicas_read_and_cannot_change(room: Room) -> None:
    room.ready()
    assert room.run(WRITE_COPY).phase is JobPhase.DONE
    # In one stream: the kubelet puts the lines of two into the order in which it sees them.
    tries = "{ touch /weights/new; rm /weights/model.safetensors; } 2>&1"
    told = room.told(room.replica(f"cat /weights/model.safetensors; ls /weights; {tries}"))
    assert told[:2] == ["weights", "model.safetensors"]
    assert [line.rpartition(": ")[2] for line in told[2:]] == ["Read-only file system"] * 2


def test_a_replica_keeps_what_it_compiles_on_the_node(room: Room) -> None:
    room.ready()
    room.run(WRITE_COPY)
    room.told(room.replica("echo compiled > $VLLM_CACHE_ROOT/kernel"))
    assert (room.disk() / COMPILE / "kernel").read_text() == "compiled\n"


def test_nothing_of_a_copy_changes_hands_when_pods_mount_it(room: Room) -> None:
    """A kubelet that walked over the files of 110 GB would keep every pod waiting."""
    room.ready()
    room.run(WRITE_COPY)
    file = room.disk() / COPY / "model.safetensors"
    os.chown(file, 0, 0)
    room.told(room.replica("cat /weights/model.safetensors"))
    room.run("cat /cache/weights/*/model.safetensors", owner=room.ready(owner="another"))
    assert (file.stat().st_uid, file.stat().st_gid) == (0, 0)


def test_objects_of_a_namespace_share_a_copy(room: Room) -> None:
    room.ready()
    room.ready(owner="another")
    room.run(WRITE_COPY)
    replica = room.replica("cat /weights/model.safetensors", owner="another")
    assert room.told(replica) == ["weights"]


def test_pods_find_the_node_whose_name_is_not_its_hostname(room: Room) -> None:
    room.ready(OTHER_NODE, hostname=OTHER_HOSTNAME)
    assert room.run(WRITE_COPY, OTHER_NODE).phase is JobPhase.DONE
    assert room.told(room.replica("cat /weights/model.safetensors", OTHER_NODE)) == ["weights"]


def test_a_replica_whose_copy_vanished_says_so_and_starts_once_it_is_back(room: Room) -> None:
    room.ready()
    room.run(WRITE_COPY)
    shutil.rmtree(room.disk() / COPIES)
    replica = room.replica("cat /weights/model.safetensors")
    wait_for("the kubelet to say so", lambda: lacks_copy(room.seen(replica)), 60, 0.1)
    assert not (room.disk() / COPIES).exists()
    room.run(WRITE_COPY, attempt=1)
    # The kubelet tries again, less and less often.
    assert room.told(replica, timeout=100) == ["weights"]


# Jobs.


def test_a_job_waits_until_the_folder_of_its_namespace_is_there(room: Room) -> None:
    room.volume()
    job = room.job(WRITE_COPY)
    wait_for("the kubelet to miss it", lambda: "FailedMount" in room.events(), 30, 0.2)
    room.prepare()
    assert room.end(job, timeout=100).phase is JobPhase.DONE


def test_a_failure_that_may_pass_is_tried_again_by_the_job_itself(room: Room) -> None:
    room.ready()
    once = "[ -e /cache/tried ] || { touch /cache/tried; exit 1; }"
    assert room.run(f"{once}; {WRITE_COPY}").phase is JobPhase.DONE


def test_a_failure_that_stays_ends_a_job_at_once_and_tells_why(room: Room) -> None:
    room.ready()
    told = '{"version":1,"outcome":"Failed","reason":"TokenRefused","message":"It is gated."}'
    job = room.run(f"echo '{told}' > /dev/termination-log; exit 3")
    assert (job.phase, job.reason, job.message) == (
        JobPhase.FAILED,
        reasons.TOKEN_REFUSED,
        "It is gated.",
    )
    assert len(room.all(POD)) == 1


def test_a_job_whose_secret_is_missing_tells_which(room: Room) -> None:
    room.ready()
    job = room.job(WRITE_COPY, secret="hub")
    wait_for("the reason", lambda: 'secret "hub" not found' in room.job_seen(job).blocked, 60, 0.1)


# What is left, and what is lost.


def test_what_an_object_leaves_is_collected_and_swept(room: Room) -> None:
    room.ready()
    room.run(WRITE_COPY)
    room.told(room.replica("true"))
    room.forget()
    # The garbage collector learns of our kind within half a minute.
    wait_for("the rest to go", lambda: not [*room.all(JOB), *room.all(VOLUME_CLAIM)], 90, 0.1)
    assert room.swept() == 2
    wait_for("the volumes to go", lambda: not room.volumes(), 30, 0.1)
    # Files are the node agent's business.
    assert (room.disk() / COPY).exists()


def test_volumes_of_objects_that_live_are_not_swept(room: Room) -> None:
    room.ready()
    room.ready(owner="another")
    room.forget("another")
    assert room.swept() == 2
    assert {one["metadata"]["labels"][names.LABEL_OWNER] for one in room.living()} == {
        room.owner().uid
    }


def test_a_claim_that_is_deleted_stays_while_the_pod_of_a_finished_job_uses_it(room: Room) -> None:
    room.ready()
    job = room.run(WRITE_COPY)
    path = VOLUME_CLAIM.path(room.namespace, claim_name("vision", NODE))
    room.api.delete(path)
    room.told(room.replica("true", owner=room.ready(owner="another")))
    assert "deletionTimestamp" in room.api.get(path)["metadata"]
    room.api.delete(JOB.path(room.namespace, job.name), {"propagationPolicy": "Background"})
    wait_for("the claim to go", lambda: not exists(room.api, path), 30, 0.1)


def test_a_volume_whose_claim_was_deleted_takes_no_other_one(room: Room) -> None:
    room.ready()
    path = VOLUME_CLAIM.path(room.namespace, claim_name("vision", NODE))
    volume = PERSISTENT_VOLUME.path("", volume_name(room.owner(), NODE))
    wait_for("the binding", lambda: phase(room.api.get(path)) == "Bound", 30, 0.1)
    room.api.delete(path)
    wait_for("the release", lambda: phase(room.api.get(volume)) == "Released", 30, 0.1)
    room.create(node_claim(room.owner(), NODE))
    job = room.job(WRITE_COPY)
    wait_for("the scheduler", lambda: "unbound" in room.job_seen(job).blocked, 30, 0.1)
    room.api.delete(volume)
    wait_for("the volume to go", lambda: not exists(room.api, volume), 30, 0.1)
    room.create(node_volume(room.owner(), NODE, NODE, room.path, []))
    assert room.end(job, timeout=100).phase is JobPhase.DONE


def phase(stored: Json) -> str:
    """The phase of a volume or a claim."""
    return str(stored.get("status", {}).get("phase"))
