"""Weights Jobs as the API server shows them, and the volumes of an object."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest

from fake_cluster import FakeCluster
from glm_operator.api import names, reasons
from glm_operator.kube.errors import RefusedError
from glm_operator.kube.read import read_owned
from glm_operator.kube.resources import Resource
from glm_operator.kube.weights import weights_jobs
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights import JobSetting, node_claim, node_volume, weights_job
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan import times
from glm_operator.plan.observed import JobPhase, WeightsJob
from shell import glm_deployment

OWNER = Owner("vision", "ml", "uid-vision")
TASK = WeightsTask(TaskKind.FETCH, "hf://org/name", "c" * 40, "gpu-1", "uid-node")
READ = WeightsTask(TaskKind.READ, "hf://org/name")
MADE, LATER, ENDED = "2026-11-25T07:00:00Z", "2026-11-25T07:01:00Z", "2026-11-25T07:05:00Z"
FACTS = {"version": 1, "commit": "c" * 40}
Json = dict[str, Any]


def job(task: WeightsTask = TASK, ended: str = "", **metadata: Any) -> Json:
    """A Job as stored; `ended` is the condition that it ended with."""
    made = copy.deepcopy(weights_job(OWNER, task, JobSetting("weights:1", "Never")))
    made["metadata"] |= {"uid": "uid-job", "creationTimestamp": MADE} | metadata
    one = {"type": ended, "status": "True", "lastTransitionTime": ENDED, "message": "Too many."}
    return made | {"status": {"conditions": [one] if ended else []}}


def pod(state: Json | None = None, name: str = "pod-1", **changes: Any) -> Json:
    """A pod of that Job, by the state of its container."""
    owner = {"kind": "Job", "uid": changes.pop("owner", "uid-job"), "controller": True}
    metadata = {"name": name, "namespace": "ml", "creationTimestamp": LATER}
    statuses = [] if state is None else [{"name": "weights", "state": state}]
    return {
        "metadata": metadata | {"ownerReferences": [owner]} | changes.pop("metadata", {}),
        "status": {"containerStatuses": statuses, "podIP": "10.0.0.7"} | changes,
    }


def ended(exit_code: int = 0, how: str = "Completed", **told: Any) -> Json:
    """A container that ended and left something."""
    message = json.dumps(told) if told else ""
    return {"terminated": {"exitCode": exit_code, "reason": how, "message": message}}


def seen(found: Json, *pods: Json) -> WeightsJob:
    """The Job as the planner sees it."""
    (only,) = weights_jobs([found], pods, "uid-vision")
    return only


RUNNING = {"running": {"startedAt": LATER}}


# Whose Jobs, whose pods.


def test_a_job_tells_its_task() -> None:
    found = seen(job())
    assert (found.task, found.created_at) == (TASK, times.from_text(MADE))


@pytest.mark.parametrize(
    "note",
    [
        *("", "{", "[]", "3", "[" * 100_000, '{"kind":"Read"}', '{"kind":"Burn","uri":""}'),
        *('{"kind":"Read","uri":3}', '{"kind":"Read","uri":"","attempt":"x"}'),
    ],
    ids=repr,
)
def test_a_job_without_a_task_that_can_be_read_is_not_ours(note: str) -> None:
    stranger = job()
    stranger["metadata"]["annotations"][names.ANNOTATION_TASK] = note
    assert weights_jobs([stranger], [], "uid-vision") == ()


def test_a_job_of_another_object_is_not_ours() -> None:
    assert weights_jobs([job()], [], "uid-of-an-earlier-one") == ()


@pytest.mark.parametrize(
    "stranger",
    [pod(RUNNING, owner="uid-other"), pod(RUNNING, metadata={"ownerReferences": []})],
    ids=["of another Job", "labelled like ours"],
)
def test_pods_that_a_job_does_not_control_say_nothing_of_it(stranger: Json) -> None:
    stranger["metadata"]["labels"] = job()["spec"]["template"]["metadata"]["labels"]
    found = seen(job(), stranger)
    assert (found.phase, found.pod, found.ip) == (JobPhase.WAITING, "", "")


# How far it is.


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (seen(job()), JobPhase.WAITING),
        (seen(job(), pod()), JobPhase.WAITING),
        (seen(job(), pod(RUNNING)), JobPhase.RUNNING),
        (seen(job(), pod(ended(1, "Error"))), JobPhase.WAITING),
        (seen(job(ended="Complete"), pod(ended())), JobPhase.DONE),
        (seen(job(ended="Complete")), JobPhase.DONE),
        (seen(job(ended="Failed"), pod(ended(3, "Error"))), JobPhase.FAILED),
    ],
    ids=["new", "pod", "running", "between tries", "done", "done, pod gone", "failed"],
)
def test_how_far_a_job_is(found: WeightsJob, expected: JobPhase) -> None:
    assert found.phase is expected


def test_only_a_pod_that_runs_is_asked_how_far_it_is() -> None:
    assert seen(job(), pod(RUNNING)).ip == "10.0.0.7"
    assert seen(job(ended="Complete"), pod(ended())).ip == ""


def test_the_newest_pod_speaks_for_its_job() -> None:
    old = pod(ended(1, "Error"), metadata={"creationTimestamp": MADE})
    found = seen(job(), pod(RUNNING, "pod-2"), old)
    assert (found.pod, found.phase) == ("pod-2", JobPhase.RUNNING)


def test_a_job_that_is_done_tells_what_it_found() -> None:
    found = seen(job(READ, "Complete"), pod(ended(outcome="Done", bytes=110, facts=FACTS)))
    assert (found.phase, found.facts, found.bytes) == (JobPhase.DONE, FACTS, 110)
    assert found.finished_at == times.from_text(ENDED)


@pytest.mark.parametrize(
    "pods",
    [[], [pod(ended())], [pod(ended(outcome="Done", facts=3))]],
    ids=["pod gone", "nothing told", "no facts told"],
)
def test_what_was_read_and_lost_is_read_again(pods: list[Json]) -> None:
    found = seen(job(READ, "Complete"), *pods)
    assert (found.phase, found.facts) == (JobPhase.FAILED, None)
    assert found.message == "what it read is lost with its pod"
    assert found.finished_at is not None


def test_a_job_that_failed_tells_why() -> None:
    state = ended(3, "Error", reason=reasons.TOKEN_REFUSED, message="It is gated.")
    found = seen(job(ended="Failed"), pod(state))
    assert (found.reason, found.message) == (reasons.TOKEN_REFUSED, "It is gated.")


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        ([pod(ended(137, "OOMKilled"))], "pod pod-1 ended with OOMKilled, exit code 137"),
        ([pod()], "Too many."),
        ([], "Too many."),
        ([pod({"terminated": {"exitCode": 1, "message": "["}})], "pod pod-1 ended with Error,"),
    ],
    ids=["killed", "never ran", "no pod", "no JSON"],
)
def test_a_job_whose_container_told_nothing_says_what_is_known(
    pods: list[Json], message: str
) -> None:
    found = seen(job(ended="Failed"), *pods)
    assert (found.reason, found.message.startswith(message)) == ("", True)


@pytest.mark.parametrize(
    "told",
    ["[" * 3900, "null", "[1]", '"x"', '{"reason": 3, "message": [], "bytes": -1, "facts": []}'],
    ids=["nested", "null", "list", "text", "other types"],
)
def test_whatever_a_container_leaves_is_no_harm(told: str) -> None:
    state = {"terminated": {"exitCode": 3, "reason": "Error", "message": told}}
    found = seen(job(ended="Failed"), pod(state))
    assert (found.bytes, found.facts) == (0, None)
    assert found.message == "pod pod-1 ended with Error, exit code 3"


# What keeps it.


def unscheduled(message: str) -> Json:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


@pytest.mark.parametrize(
    ("stuck", "told"),
    [
        (unscheduled("0/2 nodes are available: 2 Insufficient memory."), "0/2 nodes are available"),
        (
            pod({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}}),
            "ImagePullBackOff",
        ),
        (
            pod({"waiting": {"reason": "CreateContainerConfigError", "message": "secret missing"}}),
            "CreateContainerConfigError: secret missing",
        ),
        (pod({"waiting": {"reason": "ErrImagePull"}}), "ErrImagePull"),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told(stuck: Json, told: str) -> None:
    assert seen(job(), stuck).blocked.startswith(told)


@pytest.mark.parametrize(
    "fine",
    [
        pod(),
        pod({"waiting": {"reason": "ContainerCreating"}}),
        pod({"waiting": {}}),
        pod(ended(1, "Error")),
        pod(RUNNING),
    ],
    ids=["new", "creating", "waiting", "between tries", "running"],
)
def test_a_pod_that_is_about_to_start_is_not_blocked(fine: Json) -> None:
    assert seen(job(), fine).blocked == ""


@pytest.mark.parametrize(
    ("pods", "since"),
    [
        ([], MADE),
        ([pod({"waiting": {"reason": "ContainerCreating"}})], LATER),
        ([pod(ended(1, "Error"))], None),
        ([pod(RUNNING)], None),
    ],
    ids=["no pod", "a pod that waits", "between tries", "running"],
)
def test_since_when_a_job_waits_to_start(pods: list[Json], since: str | None) -> None:
    expected = None if since is None else times.from_text(since)
    assert seen(job(), *pods).waiting_since == expected


def test_a_job_that_is_being_deleted_says_so() -> None:
    assert seen(job(deletionTimestamp=ENDED)).terminating


# The volumes of an object.


class Counting(FakeCluster):
    """Remembers which kinds were listed, and may refuse to show volumes."""

    listed: list[str]
    refusing = False

    async def find(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[Json]:
        self.listed.append(resource.kind)
        if self.refusing and resource.kind == "PersistentVolume":
            raise RefusedError("volumes are forbidden", status=403)
        return await super().find(resource, namespace, labels=labels, fields=fields)


def stage(uri: str, *, claimed: bool) -> tuple[Counting, Json]:
    """An object, with a volume of its own and of another, and perhaps a claim."""
    cluster = Counting()
    cluster.listed = []
    body = glm_deployment()
    body["spec"]["tiers"] = {"flash": body["spec"]["tiers"]["flash"]}
    body["spec"]["tiers"]["flash"]["model"]["uri"] = uri
    stored = cluster.put(body)
    mine = Owner("vision", "ml", stored["metadata"]["uid"])
    for owner in (mine, Owner("vision", "ml", "uid-earlier")):
        cluster.put(node_volume(owner, "gpu-1", "gpu-1", "/var/lib/x/ml", []))
    if claimed:
        cluster.put(node_claim(mine, "gpu-1"))
    return cluster, stored


def volumes(cluster: Counting, stored: Json) -> int:
    """How many volumes a pass sees."""
    children = asyncio.run(read_owned(cluster, stored)).observed.children
    return sum(kind == "PersistentVolume" for kind, _ in children)


@pytest.mark.parametrize("uri", ["hf://org/name", "file:///data/glm"])
def test_volumes_of_an_object_are_its_children(uri: str) -> None:
    cluster, stored = stage(uri, claimed=False)
    assert volumes(cluster, stored) == 1


def test_no_volume_is_asked_for_where_weights_never_lay_on_nodes() -> None:
    cluster, stored = stage("pvc://models/glm", claimed=False)
    assert volumes(cluster, stored) == 0
    assert "PersistentVolume" not in cluster.listed


def test_volumes_are_seen_until_they_are_gone_though_the_object_needs_none_any_more() -> None:
    cluster, stored = stage("pvc://models/glm", claimed=True)
    assert volumes(cluster, stored) == 1


def test_a_platform_that_shows_no_volumes_has_none() -> None:
    cluster, stored = stage("hf://org/name", claimed=True)
    cluster.refusing = True
    assert volumes(cluster, stored) == 0
