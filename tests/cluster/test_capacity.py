"""What others allow and take away, on real control plane and kubelets: GPUs, quotas, policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from api_server import Refused
from glm_operator.api import names
from glm_operator.kube.resources import LIMIT_RANGE, NODE, POD, RESOURCE_QUOTA
from reconcile_stage import Room, Stage, flash, job, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]


GPUS = "requests.nvidia.com/gpu"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The operator looks at nothing by itself: what it acts on, something told it of."""
    with stage(tmp_path_factory.mktemp("operator"), resync_seconds=600) as opened:
        yield opened


@pytest.fixture
def room(scene: Stage) -> Iterator[Room]:
    with scene.room() as opened:
        yield opened


def passes(scene: Stage) -> float:
    return scene.operator.metric("glm_operator_reconcile_seconds_count")


@contextmanager
def no_gpu(scene: Stage) -> Iterator[None]:
    """Every node is Ready and offers none, as after a restart of the device plugin."""
    places = [(node, gpu) for node in ("node-1", "node-2") for gpu in range(8)]
    try:
        for place in places:
            scene.cluster.set_gpu_health(*place, healthy=False)
        yield
    finally:
        for place in places:
            scene.cluster.set_gpu_health(*place, healthy=True)


def offered(scene: Stage) -> set[str]:
    nodes = scene.api.get(NODE.path())["items"]
    return {node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes}


def test_gpus_that_are_away_for_seconds_change_no_plan(scene: Stage, room: Room) -> None:
    room.create({"flash": flash()}, mode="Plan")
    before = room.wait("Planned", "True", "Fits")
    with no_gpu(scene):
        room.until("the kubelets to offer no GPU", lambda: offered(scene) == {"0"})
        done = passes(scene)
        scene.api.merge(room.path, {"metadata": {"labels": {"look": "again"}}})
        room.until("another pass", lambda: passes(scene) > done)
        assert offered(scene) == {"0"}
        assert room.wait("Planned", "True", "Fits") == before
    room.until("the GPUs to be back", lambda: offered(scene) == {"8"})


def limit(scene: Stage, room: Room, hard: Json, **spec: Any) -> str:
    """A quota of the room's namespace that the server has counted; returns its path."""
    path = RESOURCE_QUOTA.path(room.namespace)
    scene.api.create(path, {"metadata": {"name": "gpus"}, "spec": {"hard": hard, **spec}})
    room.until("the server to count", lambda: "used" in scene.api.get(f"{path}/gpus")["status"])
    return f"{path}/gpus"


def test_a_quota_is_told_before_anything_is_created_and_its_rise_is_acted_on_at_once(
    scene: Stage, room: Room
) -> None:
    path = limit(scene, room, {GPUS: "1"})
    room.create({"flash": flash(replicas=2)})
    planned = room.wait("Planned", "False", "QuotaExceeded")
    taken = "of which 0 are used and 1 planned for others"
    assert planned["message"] == f"flash needs 1 {GPUS}, and quota gpus allows 1, {taken}."
    assert room.engines() == {}
    scene.api.merge(path, {"spec": {"hard": {GPUS: "2"}}})
    room.until("two replicas", lambda: len(room.engines()) == 2, timeout=2)


def test_what_others_give_back_of_a_quota_is_taken_up_at_once(scene: Stage, room: Room) -> None:
    limit(scene, room, {GPUS: "2"})
    others = POD.path(room.namespace)
    scene.api.create(others, job("theirs", "node-1", 1))
    room.create({"flash": flash(replicas=2)})
    room.wait("Planned", "False", "QuotaExceeded")
    scene.api.delete(f"{others}/theirs", {"gracePeriodSeconds": 1})
    room.until("two replicas", lambda: len(room.engines()) == 2, timeout=10)


def test_a_limit_range_is_told_before_anything_is_created(scene: Stage, room: Room) -> None:
    item = {"type": "Container", "max": {"memory": "64Mi"}}
    found = {"metadata": {"name": "cap"}, "spec": {"limits": [item]}}
    path = LIMIT_RANGE.path(room.namespace)
    scene.api.create(path, found)
    room.create({"flash": flash()})
    planned = room.wait("Planned", "False", "OutsideLimitRange")
    allows = "LimitRange cap allows each Container at most 64Mi"
    assert planned["message"] == f"flash asks for 128Mi of memory, and {allows}."
    assert room.engines() == {}
    scene.api.delete(f"{path}/cap")
    room.until("a replica", room.engines, timeout=2)


POLICIES = "/apis/admissionregistration.k8s.io/v1"
FORBIDDEN = {"name": "FORBIDDEN", "value": "1"}


@contextmanager
def policy(scene: Stage, room: Room) -> Iterator[None]:
    """Pods with a certain variable are refused in the room's namespace."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"]}
    test = "object.spec.containers.all(c, !has(c.env) || c.env.all(e, e.name != 'FORBIDDEN'))"
    spec = {
        "matchConstraints": {"resourceRules": [{**rule, "resources": ["pods"]}]},
        "validations": [{"expression": test, "message": "no forbidden variables here"}],
    }
    place = {"matchLabels": {"kubernetes.io/metadata.name": room.namespace}}
    bound = {"matchResources": {"namespaceSelector": place}, "validationActions": ["Deny"]}
    name = {"metadata": {"name": room.namespace}}
    policies = f"{POLICIES}/validatingadmissionpolicies"
    bindings = f"{POLICIES}/validatingadmissionpolicybindings"
    scene.api.create(policies, {**name, "spec": spec})
    scene.api.create(bindings, {**name, "spec": {"policyName": room.namespace, **bound}})
    try:
        room.until("the policy to act", lambda: _refuses(scene, room))
        yield
    finally:
        scene.api.delete(f"{bindings}/{room.namespace}")
        scene.api.delete(f"{policies}/{room.namespace}")


def _refuses(scene: Stage, room: Room) -> bool:
    pod = job("probe", "node-1", 1)
    pod["spec"]["containers"][0]["env"] = [FORBIDDEN]
    try:
        scene.api.create(POD.path(room.namespace), pod, dry_run=True)
    except Refused as error:
        return "no forbidden variables here" in str(error)
    return False


def test_a_replica_stays_when_a_policy_would_refuse_its_successor(scene: Stage, room: Room) -> None:
    limit(scene, room, {GPUS: "1"})
    room.create({"flash": flash()})
    room.wait("Ready", "True")
    before = room.uids()
    with policy(scene, room):
        edited = flash(engine={**flash()["engine"], "env": [FORBIDDEN]})
        room.edit({"tiers": {"flash": edited}})
        degraded = room.wait("Degraded", "True", "Refused")
        assert "no forbidden variables here" in degraded["message"]
        done = passes(scene)
        room.until("it to be tried again", lambda: passes(scene) > done)
        room.wait("FlashAvailable", "True")
        assert room.uids() == before
        (pod,) = room.engines().values()
        assert names.ANNOTATION_DRAINING_SINCE not in pod["metadata"]["annotations"]
    # The quota admits one replica: the server would refuse the successor until this one is gone.
    room.until("the successor", lambda: room.uids() and room.uids() != before, 120)
    room.wait("Ready", "True")
