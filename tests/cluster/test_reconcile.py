"""The operator on real control plane and kubelets, with the engine simulator in the pods."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from glm_dev.kubectl import KubectlError
from glm_operator.api import names
from glm_operator.api.reference import LIVE, effects
from glm_operator.kube import convert
from glm_operator.kube.resources import LEASE, POD, SERVICE
from glm_operator.runtime.checks import png
from reconcile_stage import SIMULATOR, Room, Stage, flagship, flash, job, stage, text

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]
PIXEL = base64.b64encode(png(1)).decode()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("operator")) as opened:
        yield opened


@pytest.fixture
def room(scene: Stage) -> Iterator[Room]:
    with scene.room() as opened:
        yield opened


@pytest.fixture(scope="module")
def served(scene: Stage) -> Iterator[Room]:
    """Both tiers, serving. Tests leave it as they found it."""
    with scene.room() as opened:
        opened.create({"flagship": flagship(), "flash": flash(replicas=2)})
        opened.wait("Ready", "True")
        opened.until("all replicas", lambda: _ready(opened) == 3)
        yield opened


def _ready(room: Room) -> int:
    tiers = room.read().get("status", {}).get("tiers", {}).values()
    return sum(tier.get("readyReplicas", 0) for tier in tiers)


def test_one_object_becomes_pinned_verified_routable_pods(served: Room) -> None:
    uid = served.read()["metadata"]["uid"]
    pods = served.engines().values()
    assert len(pods) == 3
    for pod in pods:
        replica = convert.replica_of(pod, uid)
        assert replica.node == pod["spec"]["nodeName"] == convert.pinned_node(pod)
        assert replica.verified
        assert replica.verified_container == replica.container_id
        assert pod["metadata"]["labels"][names.LABEL_ROUTABLE] == "true"


def test_nothing_is_written_when_nothing_changed(scene: Stage, served: Room) -> None:
    served.until("every pod to be Ready", served.settled)
    before, version = scene.quiet(), served.read()["metadata"]["resourceVersion"]
    passes = scene.operator.metric("glm_operator_reconcile_seconds_count")
    served.until(
        "several more passes",
        lambda: scene.operator.metric("glm_operator_reconcile_seconds_count") >= passes + 4,
    )
    assert served.read()["metadata"]["resourceVersion"] == version
    assert scene.writes() - before == {}


def test_the_same_object_applied_twice_is_no_write_of_ours(scene: Stage, served: Room) -> None:
    served.until("every pod to be Ready", served.settled)
    before, stored = scene.quiet(), served.read()
    passes = scene.operator.metric("glm_operator_reconcile_seconds_count")
    served.edit(stored["spec"])
    served.until(
        "several more passes",
        lambda: scene.operator.metric("glm_operator_reconcile_seconds_count") >= passes + 3,
    )
    more = scene.writes() - before
    assert more.total() == 1, f"the user's own request, and no other: {more}"
    assert served.read()["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]


LIVE_EDITS: dict[str, Any] = {
    "mode": "Paused",
    "tiers.flagship.replicas": 2,
    "tiers.flagship.drain.timeoutSeconds": 7,
    "tiers.flagship.placement.provisioning": "NodeAutoscaler",
    "tiers.flagship.placement.nodeAutoscaler.nodeShape": "8xH100-80GB",
    "tiers.flagship.placement.nodeAutoscaler.maxUnschedulable": 2,
    "tiers.flagship.placement.nodeAutoscaler.timeoutSeconds": 600,
    "tiers.flagship.weights.prePull": "Disabled",
    "tiers.flagship.weights.secretRef": "hub",
    "tiers.flash.replicas": 3,
    "tiers.flash.drain.timeoutSeconds": 7,
    "tiers.flash.placement.provisioning": "NodeAutoscaler",
    "tiers.flash.placement.nodeAutoscaler.nodeShape": "8xH100-80GB",
    "tiers.flash.placement.nodeAutoscaler.maxUnschedulable": 2,
    "tiers.flash.placement.nodeAutoscaler.timeoutSeconds": 600,
    "tiers.flash.weights.prePull": "Disabled",
    "tiers.flash.weights.secretRef": "hub",
    "tiers.flash.scaling.mode": "External",
    "tiers.flash.scaling.minReplicas": 2,
    "tiers.flash.scaling.maxReplicas": 4,
    "tiers.flash.scaling.scaleToZero.idleSeconds": 900,
    "tiers.flash.scaling.scaleToZero.holdTimeoutSeconds": 200,
    "tiers.text.replicas": 2,
    "tiers.text.drain.timeoutSeconds": 7,
    "tiers.text.placement.provisioning": "NodeAutoscaler",
    "tiers.text.placement.nodeAutoscaler.nodeShape": "8xH100-80GB",
    "tiers.text.placement.nodeAutoscaler.maxUnschedulable": 2,
    "tiers.text.placement.nodeAutoscaler.timeoutSeconds": 600,
    "tiers.text.weights.prePull": "Disabled",
    "tiers.text.weights.secretRef": "hub",
    "routing.autoModel": "house",
    "routing.qualityTolerancePoints": 9,
    "routing.rules": [{"name": "everything", "tier": "flagship"}],
    "routing.degradation": "Degrade",
    "gateway.replicas": 2,
    "gateway.modelAliases": {"gpt-4o": "auto"},
    "gateway.service.type": "NodePort",
    "gateway.auth.apiKeysSecretRef": "glm-api-keys",
    "gateway.media.allowHTTP": "Enabled",
    "gateway.limits.maxBodyBytes": 33554432,
    "gateway.limits.maxInFlightBytes": 536870912,
    "gateway.limits.maxHeldRequests": 99,
}


def test_every_live_field_is_edited_below() -> None:
    live = {path.removeprefix("spec.") for path, effect in effects().items() if effect == LIVE}
    assert live == set(LIVE_EDITS)


def test_no_edit_of_a_live_field_touches_a_pod(room: Room) -> None:
    room.create({"flagship": flagship(), "flash": flash(), "text": text()})
    room.wait("Ready", "True")
    before = room.uids()
    spec = room.read()["spec"]
    for path, value in LIVE_EDITS.items():
        _edit(room, path, value)
        assert before.items() <= room.uids().items(), f"{path}: a pod was replaced"
        if path == "mode":
            _edit(room, path, "Live")
    room.edit({part: spec[part] for part in ("tiers", "routing", "gateway")})
    room.until("the extra replicas to go", lambda: room.uids() == before)


def _edit(room: Room, path: str, value: Any) -> None:
    generation = room.edit(_nested(path, value))["metadata"]["generation"]
    _observed(room, generation)


def _observed(room: Room, generation: int) -> None:
    room.until(
        f"generation {generation}",
        lambda: room.read()["status"].get("observedGeneration") == generation,
    )


def _nested(path: str, value: Any) -> Json:
    for part in reversed(path.split(".")):
        value = {part: value}
    return dict(value)


def test_a_deleted_pod_is_back_on_its_node(scene: Stage, served: Room) -> None:
    name, pod = next(iter(served.engines().items()))
    node, uid = convert.pinned_node(pod), pod["metadata"]["uid"]
    scene.api.delete(POD.path(served.namespace, name))
    served.until("three others", lambda: _others(served, uid) == 3)
    served.until("all replicas", lambda: _ready(served) == 3)
    tier = pod["metadata"]["labels"][names.LABEL_TIER]
    nodes = [
        convert.pinned_node(one)
        for one in served.engines().values()
        if one["metadata"]["labels"][names.LABEL_TIER] == tier
    ]
    assert node in nodes


def _others(room: Room, uid: str) -> int:
    return len([one for one in room.uids().values() if one != uid])


def test_a_lost_child_is_applied_again(scene: Stage, served: Room) -> None:
    path = SERVICE.path(served.namespace, "vision-flash")
    uid = scene.api.get(path)["metadata"]["uid"]
    scene.api.delete(path)
    served.until("another Service", lambda: _service_uid(served) not in ("", uid), 10)


def _service_uid(room: Room) -> str:
    found = [one for one in room.list(SERVICE) if one["metadata"]["name"] == "vision-flash"]
    return str(found[0]["metadata"]["uid"]) if found else ""


def test_an_operator_killed_again_and_again_loses_and_doubles_nothing(
    scene: Stage, room: Room
) -> None:
    room.create({"flagship": flagship(), "flash": flash(replicas=2)})
    # Every write of a pass is a place to die at: tests/unit has them all, here are real ones.
    for seconds in (0.0, 0.1, 0.3, 0.6, 1.0):
        scene.operator.run_for(seconds)
        scene.operator.kill()
        scene.operator.start()
    room.wait("Ready", "True")
    room.until("all replicas", lambda: _ready(room) == 3)
    assert len(room.engines()) == 3
    assert room.scheduled() == set(room.uids().values()), "a replica was made twice"


def test_an_object_deleted_while_the_operator_is_away_leaves_nothing(
    scene: Stage, room: Room
) -> None:
    room.create({"flash": flash()})
    room.wait("Ready", "True")
    scene.operator.kill()
    room.delete()
    scene.operator.start()
    room.until("nothing to be left", lambda: not room.left())


def test_an_object_that_does_not_fit_takes_no_gpu_and_says_why(room: Room) -> None:
    room.create({"flagship": flagship(replicas=9), "flash": flash()})
    planned = room.wait("Planned", "False")
    assert "on one node" in planned["message"]
    assert room.engines() == {}


def test_mode_plan_publishes_the_plan_and_creates_nothing(room: Room) -> None:
    room.create({"flagship": flagship(), "flash": flash()}, mode="Plan")
    room.wait("Ready", "False", "PlanOnly")
    assert set(room.read()["status"]["plan"]) == {"flagship", "flash"}
    assert room.left() == []
    room.edit({"mode": "Live"})
    room.wait("Ready", "True")


def test_mode_paused_replaces_what_is_lost_and_nothing_else(scene: Stage, room: Room) -> None:
    room.create({"flash": flash(replicas=2)})
    room.until("two replicas", lambda: _ready(room) == 2)
    room.edit({"mode": "Paused", "tiers": {"flash": {"replicas": 1}}})
    room.wait("Progressing", "False", "Paused")
    victim, uid = next(iter(room.uids().items()))
    scene.api.delete(POD.path(room.namespace, victim))
    room.until("another replica", lambda: _others(room, uid) == 2)


def test_a_wrong_tool_call_parser_is_healthy_and_never_routable(room: Room) -> None:
    arguments = ["--tool-call-parser", "hermes"]
    room.create({"flash": flash(engine=_engine(extraArgs=arguments))})
    checked = room.wait("ToolCallVerified", "False", "ToolParserFailed")
    assert "expected restart(server=a)" in checked["message"]
    (pod,) = room.engines().values()
    assert convert.condition(pod, "ContainersReady")["status"] == "True"
    assert names.LABEL_ROUTABLE not in pod["metadata"]["labels"]


def test_an_engine_that_dies_at_its_first_image_is_never_routable(room: Room) -> None:
    env = [{"name": "SIM_DIE_AT_IMAGE", "value": "1"}]
    room.create({"flash": flash(engine=_engine(env=env))})
    checked = room.wait("ToolCallVerified", "False", "EngineDied")
    assert "ended during the image check: Completed, exit code 0" in checked["message"]
    (pod,) = room.engines().values()
    assert names.LABEL_ROUTABLE not in pod["metadata"]["labels"]


def test_a_text_tier_is_verified_without_an_image_and_asked_for_text_alone(room: Room) -> None:
    room.create({"flash": flash()})
    room.wait("Ready", "True")
    words = {"type": "text", "text": "What is a taint?"}
    slow = [{"name": "SIM_STARTUP_SECONDS", "value": "8"}]
    room.edit({"tiers": {"text": text(engine=_engine(env=slow))}})
    room.until("the gateway to know the tier", lambda: "glm-4.6" in room.models())
    assert room.ask(words) == "glm-4.6v-flash", "nobody waits for a tier that never served"
    room.wait("Ready", "True")
    assert room.wait("TextAvailable", "True")["message"] == "1 of 1 replicas serve."
    (pod,) = (pod for name, pod in room.engines().items() if name.startswith("vision-text-"))
    # The simulator of this model refuses images: no check showed it one.
    assert convert.replica_of(pod, "").verified
    assert not {"--limit-mm-per-prompt", "--mm-encoder-tp-mode"} & set(_words(pod))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + PIXEL}}
    room.until("text to be asked for text", lambda: room.ask(words) == "glm-4.6")
    assert room.ask(picture, words) == "glm-4.6v-flash"


def _words(pod: Json) -> list[str]:
    (container,) = pod["spec"]["containers"]
    return [*container["command"], *container.get("args", ())]


def _engine(**changes: Any) -> Json:
    return {"image": SIMULATOR, "resources": {"cpu": "20m", "memory": "128Mi"}, **changes}


def test_a_restarted_container_is_checked_again_before_it_serves(scene: Stage, room: Room) -> None:
    room.create({"flash": flash()})
    room.wait("Ready", "True")
    (name,) = room.engines()
    before = convert.replica_of(room.engines()[name], "")
    # The simulator ends itself, so the kubelet restarts the container of the same pod.
    end = "import os; os.kill(1, 15)"
    command = ("exec", "-n", room.namespace, name, "--", "python3", "-c", end)
    # What was started in a container that ends may be killed before it has ended by itself.
    with contextlib.suppress(KubectlError):
        scene.cluster.kubectl.run(*command)

    def checked_again() -> bool:
        now = convert.replica_of(room.engines()[name], "")
        other = now.container_id not in ("", before.container_id)
        return other and now.verified_container == now.container_id and now.routable

    room.until("the new container to be checked", checked_again)
    assert room.engines()[name]["metadata"]["uid"] == before.uid


def test_a_service_of_somebody_else_is_not_taken_over(scene: Stage, room: Room) -> None:
    path = SERVICE.path(room.namespace)
    spec = {"ports": [{"port": 80}]}
    theirs = scene.api.create(path, {"metadata": {"name": "vision-flash"}, "spec": spec})
    room.create({"flash": flash()})
    degraded = room.wait("Degraded", "True", "NameTaken")
    assert f"Service {room.namespace}/vision-flash" in degraded["message"]
    now = scene.api.get(f"{path}/vision-flash")
    assert now["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


def test_gpus_that_somebody_gives_back_are_taken_up_at_once(scene: Stage, room: Room) -> None:
    jobs = POD.path(room.namespace)
    for node in room.nodes():
        held = sum(hold.count for hold in node.holds)
        scene.api.create(jobs, job(f"job-{node.name}", node.name, 8 - held))
    room.create({"flash": flash()})
    planned = room.wait("Planned", "False", "WaitingForGPUs")
    assert f"{room.namespace}/job-" in planned["message"]
    scene.api.delete(f"{jobs}/job-node-1", {"gracePeriodSeconds": 1})
    room.until("the job to go", lambda: not _exists(room, "job-node-1"))
    room.until("a replica", room.engines, timeout=2)
    scene.api.delete(f"{jobs}/job-node-2", {"gracePeriodSeconds": 1})


def _exists(room: Room, name: str) -> bool:
    return any(pod["metadata"]["name"] == name for pod in room.list(POD, ""))


def _holder(scene: Stage, room: Room) -> str:
    lease = scene.api.get(LEASE.path(room.namespace, "glm-operator"))
    return str(lease["spec"].get("holderIdentity") or "")


def test_an_operator_that_was_suspended_ends_when_another_has_taken_over(
    scene: Stage, room: Room
) -> None:
    with scene.rival("first", room.namespace) as first:
        first.start()
        with scene.rival("second", room.namespace) as second:
            second.start(leading=False)
            first.suspend()
            room.until("the second to take over", lambda: _holder(scene, room) == "second", 20)
            first.resume()
            assert first.exit_code(timeout=20) == 1
            assert "another operator may be at work" in first.said()
            assert second.stop() == 0
            assert _holder(scene, room) == "", "it is given back, so that nobody has to wait"
