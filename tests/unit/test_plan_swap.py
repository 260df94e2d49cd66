"""A serving replica that must go before its successor comes: the successor is tried first."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_model import ModelCluster
from fake_cluster import FakeCluster
from glm_operator.api import names
from glm_operator.kube.errors import (
    AlreadyExistsError,
    KubeError,
    RefusedError,
    SuccessorRefusedError,
    UnavailableError,
)
from glm_operator.plan.actions import CreatePod, DeletePod, PatchPod, TryPod
from plan_builders import FLASH, OFF, settled
from shell import KEY, Shell, glm_deployment

POLICY = "try Pod ml/x: pods is forbidden: ValidatingAdmissionPolicy 'images' denied request"


def full(**spec: Any) -> ModelCluster:
    """A flagship on the only two GPUs, with an edit that replaces it."""
    made = settled(2, **spec)
    made.edit(tiers__flagship__engine={"env": [{"name": "A", "value": "1"}]})
    return made


def test_the_successor_is_tried_on_its_node_last_of_all_and_before_the_drain_begins() -> None:
    made = full()
    (victim,) = made.of("flagship")
    tried, drain = made.plan().actions[-2:]
    assert isinstance(tried, TryPod)
    assert isinstance(drain, PatchPod)
    assert (drain.name, drain.labels) == (victim.name, {names.LABEL_ROUTABLE: None})
    metadata, spec = tried.manifest["metadata"], tried.manifest["spec"]
    assert metadata["name"] not in made.pods
    assert {"name": "A", "value": "1"} in spec["containers"][0]["env"]
    assert spec["affinity"] == made_on(victim.node)


def made_on(node: str) -> dict[str, Any]:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"nodeAffinity": required}


def test_a_successor_that_is_refused_takes_nothing_away() -> None:
    made = full()
    made.forbidding = True
    before = made.routable("flagship")
    for _ in range(20):
        made.reconcile()
        made.advance(30)
    assert made.routable("flagship") == before
    assert all(pod.draining_since is None for pod in made.pods.values())


def test_a_drain_that_has_begun_is_not_tried_again() -> None:
    made = full()
    made.in_flight = dict.fromkeys(made.routable("flagship"), 1)
    for _ in range(5):
        made.reconcile()
        made.advance(1)
    assert len(made.tried) == 1
    made.settle()
    assert len(made.routable("flagship")) == 1


def test_where_a_slot_is_free_nothing_is_tried() -> None:
    made = settled(8)
    made.edit(tiers__flagship__engine={"env": [{"name": "A", "value": "1"}]})
    kinds = {type(one) for one in made.plan().actions}
    assert CreatePod in kinds
    assert TryPod not in kinds
    made.settle()
    assert made.tried == []


def test_other_tiers_go_on_though_a_successor_is_refused() -> None:
    made = settled(3, flash=FLASH | OFF)
    made.edit(tiers__flagship__engine={"env": [{"name": "A", "value": "1"}]})
    made.edit(tiers__flash__replicas=0)
    made.forbidding = True
    for _ in range(10):
        made.reconcile()
        made.advance(30)
    assert made.of("flash") == []
    assert len(made.routable("flagship")) == 1


def test_no_replica_is_deleted_before_it_is_drained() -> None:
    assert not [one for one in full().plan().actions if isinstance(one, DeletePod)]


# On the API server.


def edited(error: KubeError | None) -> Shell:
    """A full node and an edit, where the server answers a trial with this error."""
    shell = Shell.with_nodes("gpu-1", gpus=6)
    shell.cluster.put(glm_deployment())
    shell.until_still()
    spec = glm_deployment()["spec"]
    spec["tiers"]["flagship"]["engine"] = {"env": [{"name": "A", "value": "1"}]}
    shell.cluster.edit_spec(*KEY, spec)
    answer_trials(shell.cluster, error)
    return shell


def answer_trials(cluster: FakeCluster, error: KubeError | None) -> None:
    def before_write(verb: str, manifest: dict[str, Any]) -> None:
        if verb == "try" and error is not None:
            raise error

    cluster.before_write = before_write


def draining(shell: Shell) -> list[str]:
    found = [pod["metadata"] for pod in shell.cluster.pods()]
    return [
        one["name"]
        for one in found
        if names.ANNOTATION_DRAINING_SINCE in (one.get("annotations") or {})
    ]


def test_a_policy_that_refuses_the_successor_is_told_in_its_own_words() -> None:
    shell = edited(RefusedError(POLICY, status=403))
    for _ in range(3):
        with pytest.raises(SuccessorRefusedError):
            shell.once()
        shell.cluster.now += 60
    assert draining(shell) == []
    degraded = shell.condition("Degraded")
    assert (degraded["status"], degraded["reason"], degraded["message"]) == (
        "True",
        "Refused",
        POLICY,
    )
    assert shell.condition("FlagshipAvailable")["status"] == "True"


def test_a_refused_successor_does_not_keep_others_from_being_checked() -> None:
    shell = edited(RefusedError(POLICY))
    flash = next(
        pod
        for pod in shell.cluster.pods()
        if pod["metadata"]["labels"][names.LABEL_TIER] == "flash"
    )
    name = flash["metadata"]["name"]
    shell.cluster.restart_container(name)
    for _ in range(2):
        with pytest.raises(SuccessorRefusedError):
            shell.once()
    (pod,) = [one for one in shell.cluster.pods() if one["metadata"]["name"] == name]
    verified = pod["metadata"]["annotations"][names.ANNOTATION_VERIFIED_CONTAINER]
    assert verified == pod["status"]["containerStatuses"][0]["containerID"]


@pytest.mark.parametrize(
    "error",
    [
        None,
        RefusedError("try Pod ml/x: exceeded quota: gpus, requested: requests.nvidia.com/gpu=4"),
        AlreadyExistsError("it exists"),
    ],
    ids=["admitted", "a quota that the predecessor uses", "made meanwhile"],
)
def test_a_drain_begins_once_the_successor_would_be_admitted(error: KubeError | None) -> None:
    shell = edited(error)
    shell.once()
    assert len(draining(shell)) == 1


def test_a_server_that_does_not_answer_a_trial_takes_nothing_away() -> None:
    shell = edited(UnavailableError("failed calling webhook"))
    with pytest.raises(UnavailableError):
        shell.once()
    assert draining(shell) == []


def test_a_trial_that_fails_for_want_of_a_default_is_a_refusal() -> None:
    shell = edited(RefusedError("try Pod ml/x: failed quota: gpus: must specify limits.cpu"))
    with pytest.raises(SuccessorRefusedError):
        shell.once()
    assert draining(shell) == []
