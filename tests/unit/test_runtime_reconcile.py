"""Whole passes with the real planner on an API server in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fake_cluster import FakeCluster, fail_at, gpu_node, refuse_kind, run_again
from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.errors import KubeError, RefusedError, UnavailableError
from shell import KEY, Shell, glm_deployment, right_engine

GPU = "nvidia.com/gpu"


def served(**spec: Any) -> Shell:
    """A deployment that runs on two nodes and has come to rest."""
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment(**spec))
    shell.until_still()
    return shell


def facts(cluster: FakeCluster) -> dict[str, Any]:
    """What must be the same however often the operator died on the way."""
    pods = {pod["metadata"]["name"]: convert.pinned_node(pod) for pod in cluster.pods()}
    others = sorted(place for place in cluster.objects if place[0] not in ("Pod", "Node", "Event"))
    conditions = cluster.objects[names.KIND, *KEY]["status"]["conditions"]
    state = {one["type"]: (one["status"], one["reason"]) for one in conditions}
    created = [write for write in cluster.writes if (write.verb, write.kind) == ("create", "Pod")]
    return {"created": len(created), "nodes": pods, "others": others, "conditions": state}


def test_every_replica_is_pinned_verified_and_routable() -> None:
    shell = served()
    pods = shell.cluster.pods()
    assert len(pods) == 3
    for pod in pods:
        replica = convert.replica_of(pod, shell.stored()["metadata"]["uid"])
        assert replica.node in ("gpu-1", "gpu-2")
        assert (replica.verified, replica.routable) == (True, True)
    assert shell.condition("Planned")["status"] == "True"


def test_nothing_is_written_when_nothing_changed() -> None:
    shell = served()
    shell.cluster.writes.clear()
    for _ in range(5):
        shell.cluster.now += 600
        shell.once()
    shell.restart()
    shell.once()
    assert shell.cluster.writes == []


def test_a_quota_of_the_namespace_is_read_with_every_pass() -> None:
    shell = Shell.with_nodes("gpu-1")
    hard = {"requests.nvidia.com/gpu": "5"}
    quota = {"kind": "ResourceQuota", "metadata": {"name": "gpus", "namespace": "ml"}}
    shell.cluster.put(quota | {"spec": {"hard": hard}, "status": {"hard": hard}})
    other = {"kind": "ResourceQuota", "metadata": {"name": "none", "namespace": "other"}}
    shell.cluster.put(other | {"spec": {"hard": {"pods": "0"}}})
    shell.cluster.put(glm_deployment())
    shell.once()
    assert shell.condition("Planned")["reason"] == "QuotaExceeded"
    assert shell.cluster.pods() == []
    shell.cluster.put(quota | {"spec": {"hard": {GPU: "6"}}, "status": {}})
    shell.once()
    assert len(shell.cluster.pods()) == 3


def test_no_node_is_given_more_than_it_has() -> None:
    shell = served()
    shell.feed()
    for node in shell.inventory.nodes():
        assert sum(hold.count for hold in node.holds) <= node.allocatable[GPU]


def begin() -> Shell:
    """A new object on two nodes."""
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment())
    return shell


def edited() -> Shell:
    """A served object of which one tier shrinks and the other is replaced."""
    shell = served()
    spec = glm_deployment()["spec"]
    spec["tiers"]["flash"]["replicas"] = 1
    spec["tiers"]["flagship"]["context"] = {"maxModelLen": 4096}
    shell.cluster.edit_spec(*KEY, spec)
    return shell


BEGINNINGS = {"a new object": begin, "an edit": edited}


def kill_at(shell: Shell, number: int, after: bool) -> None:
    """Passes until the n-th write, which is the operator's last; then another comes to rest."""
    fail_at(shell.cluster, number, after=after)
    for _ in range(12):
        try:
            shell.once()
        except KubeError:
            break
        shell.cluster.settle()
        shell.cluster.now += 5
    run_again(shell.cluster)
    shell.restart()
    shell.until_still()


def writes_of(beginning: Callable[[], Shell]) -> int:
    shell = beginning()
    shell.cluster.writes.clear()
    shell.until_still()
    return len([write for write in shell.cluster.writes if write.kind != "Event"])


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
@pytest.mark.parametrize("name", BEGINNINGS)
def test_an_operator_killed_at_any_write_loses_and_doubles_nothing(name: str, after: bool) -> None:
    beginning = BEGINNINGS[name]
    undisturbed = beginning()
    undisturbed.until_still()
    expected = facts(undisturbed.cluster)
    assert expected["nodes"]
    for number in range(1, writes_of(beginning) + 1):
        shell = beginning()
        kill_at(shell, number, after)
        assert facts(shell.cluster) == expected, f"killed at write {number}"


def test_a_deleted_pod_is_back_on_its_node() -> None:
    shell = served()
    victim = shell.cluster.pods()[0]
    node = convert.pinned_node(victim)
    del shell.cluster.objects["Pod", "ml", victim["metadata"]["name"]]
    shell.until_still()
    back = [pod for pod in shell.cluster.pods() if convert.pinned_node(pod) == node]
    tier = victim["metadata"]["labels"][names.LABEL_TIER]
    assert tier in [pod["metadata"]["labels"][names.LABEL_TIER] for pod in back]
    assert len(shell.cluster.pods()) == 3


def test_a_name_is_not_used_again_while_its_pod_terminates() -> None:
    shell = served()
    victim = shell.cluster.pods()[0]["metadata"]
    victim["deletionTimestamp"] = "2026-11-23T21:00:00Z"
    shell.cluster.writes.clear()
    shell.once()
    created = [write.name for write in shell.cluster.writes if write.verb == "create"]
    assert victim["name"] not in created
    assert len(shell.cluster.pods()) == 4


def test_an_object_that_is_gone_leaves_nothing_in_memory() -> None:
    shell = served()
    del shell.cluster.objects[names.KIND, *KEY]
    assert shell.once().exists is False
    assert shell.reconciler.known() == frozenset()
    shell.cluster.collect_garbage()
    assert {place[0] for place in shell.cluster.objects} == {"Node", "Event"}


def test_an_object_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    shell = served()
    shell.stored()["metadata"]["deletionTimestamp"] = "2026-11-23T21:00:00Z"
    shell.cluster.pods()[0]["metadata"]["labels"].pop(names.LABEL_ROUTABLE)
    shell.cluster.writes.clear()
    shell.once()
    assert shell.cluster.writes == []


def test_an_object_that_does_not_fit_takes_no_gpu_and_says_why() -> None:
    shell = Shell.with_nodes("gpu-1", gpus=2)
    shell.cluster.put(glm_deployment())
    shell.until_still()
    assert shell.cluster.pods() == []
    planned = shell.condition("Planned")
    assert planned["status"] == "False"
    assert "4" in planned["message"]
    assert shell.reconciler.waiting() == [KEY]


def test_mode_plan_publishes_the_plan_and_creates_nothing() -> None:
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment(mode="Plan"))
    shell.until_still()
    assert {write.kind for write in shell.cluster.writes} <= {names.KIND, "Event"}
    assert shell.stored()["status"]["plan"].keys() == {"flagship", "flash"}


def test_mode_paused_replaces_what_is_lost_and_changes_nothing_else() -> None:
    shell = served()
    paused = glm_deployment(mode="Paused")["spec"]
    paused["tiers"]["flash"]["replicas"] = 1
    shell.cluster.edit_spec(*KEY, paused)
    shell.until_still()
    assert len(shell.cluster.pods()) == 3
    name = shell.cluster.pods()[0]["metadata"]["name"]
    del shell.cluster.objects["Pod", "ml", name]
    shell.until_still()
    assert len(shell.cluster.pods()) == 3


def wrong_parser(body: Mapping[str, Any]) -> tuple[int, Any]:
    if body["tool_choice"] == "required":
        return right_engine(body)
    return 200, {"choices": [{"message": {"content": "<tool_call>"}}]}


def test_an_engine_with_a_wrong_parser_is_never_routable_and_the_status_says_why() -> None:
    shell = Shell.with_nodes("gpu-1", "gpu-2", engine=wrong_parser)
    shell.cluster.put(glm_deployment())
    shell.until_still()
    labels = [pod["metadata"]["labels"] for pod in shell.cluster.pods()]
    assert labels
    assert not any(names.LABEL_ROUTABLE in one for one in labels)
    checked = shell.condition("ToolCallVerified")
    assert (checked["status"], checked["reason"]) == ("False", "ToolParserFailed")
    assert shell.condition("Ready")["status"] == "False"


def test_a_restarted_container_leaves_routing_and_returns_when_checked() -> None:
    shell = served()
    name = shell.cluster.pods()[0]["metadata"]["name"]
    shell.cluster.restart_container(name)
    shell.engine = wrong_parser
    shell.once()
    pod = shell.cluster.objects["Pod", "ml", name]
    assert names.LABEL_ROUTABLE not in pod["metadata"]["labels"]
    assert convert.condition(pod, names.GATE_VERIFIED)["status"] == "False"
    shell.engine = right_engine
    shell.cluster.now += 300
    shell.until_still()
    pod = shell.cluster.objects["Pod", "ml", name]
    assert pod["metadata"]["labels"][names.LABEL_ROUTABLE] == "true"


def test_an_object_of_an_older_schema_gets_a_sentence_and_keeps_what_runs() -> None:
    shell = served()
    broken = glm_deployment()["spec"]
    broken["tiers"]["flash"]["replicas"] = "many"
    shell.cluster.edit_spec(*KEY, broken)
    shell.cluster.writes.clear()
    shell.until_still()
    planned = shell.condition("Planned")
    assert (planned["status"], planned["reason"]) == ("False", "InvalidSpec")
    assert "replicas" in planned["message"]
    assert shell.condition("Ready")["status"] == "False"
    assert len(shell.cluster.pods()) == 3
    assert [write.verb for write in shell.cluster.writes] == ["apply status"]


def test_a_refusal_by_the_server_is_in_the_status_and_is_not_written_again() -> None:
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment())
    refuse_kind(shell.cluster, "Pod", RefusedError("create Pod ml/x: exceeded quota: gpus"))
    for _ in range(3):
        with pytest.raises(RefusedError):
            shell.once()
        shell.cluster.now += 60
    degraded = shell.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "QuotaExceeded")
    assert "exceeded quota" in degraded["message"]
    statuses = [write for write in shell.cluster.writes if write.verb == "apply status"]
    assert len(statuses) == 1


def test_a_child_name_that_others_use_is_said_and_not_taken_over() -> None:
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment())
    foreign = {"apiVersion": "v1", "kind": "Service"}
    shell.cluster.put({**foreign, "metadata": {"name": "vision-flash", "namespace": "ml"}})
    with pytest.raises(KubeError):
        shell.once()
    assert shell.condition("Degraded")["reason"] == "NameTaken"
    assert "Service ml/vision-flash" in shell.condition("Degraded")["message"]


def test_a_passing_trouble_is_not_told_to_the_user() -> None:
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment())
    refuse_kind(shell.cluster, "Pod", UnavailableError("no answer"))
    with pytest.raises(UnavailableError):
        shell.once()
    assert "status" not in shell.stored()


GATEWAY = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "vision-gateway-1",
        "namespace": "ml",
        "labels": {names.LABEL_DEPLOYMENT: "vision", "pod-template-hash": "7c9f"},
        "ownerReferences": [
            {"kind": "ReplicaSet", "name": "vision-gateway-7c9f", "uid": "rs", "controller": True}
        ],
    },
    "spec": {},
    "status": {"phase": "Running", "podIP": "10.0.0.1"},
}


def gateway_state(held: int) -> dict[str, Any]:
    """What an idle gateway says, or one that holds requests for flash."""
    flash = {
        "arrivals": held,
        "held": held,
        "oldestHeldSeconds": 0.1,
        "inFlight": 0,
        "replicas": {},
    }
    return {
        "version": 1,
        "pod": "vision-gateway-1",
        "generation": 1,
        "uptimeSeconds": 5,
        "tiers": {"flash": flash},
    }


def flash_pods(shell: Shell) -> list[str]:
    found = (pod["metadata"]["name"] for pod in shell.cluster.pods())
    return [name for name in found if "-flash-" in name]


def asleep() -> Shell:
    """A deployment whose flash tier was idle for long enough."""
    spec = glm_deployment()["spec"]
    spec["tiers"]["flash"]["scaling"] = {
        "minReplicas": 0,
        "maxReplicas": 2,
        "scaleToZero": {"idleSeconds": 20},
    }
    shell = Shell.with_nodes("gpu-1", "gpu-2")
    shell.cluster.put(glm_deployment(**spec))
    shell.cluster.put(GATEWAY)
    shell.states["10.0.0.1"] = gateway_state(held=0)
    for _ in range(60):
        shell.poll()
        shell.once()
        shell.cluster.settle()
    assert flash_pods(shell) == []
    return shell


def test_a_held_request_wakes_a_sleeping_tier() -> None:
    shell = asleep()
    shell.states["10.0.0.1"] = gateway_state(held=1)
    shell.woken.clear()
    shell.poll()
    assert shell.woken == [KEY]
    shell.once()
    assert len(flash_pods(shell)) == 1
    decisions = {"tier": "flash", "reason": "Wake"}
    name = "glm_operator_scale_decisions_total"
    assert shell.metrics.registry.get_sample_value(name, decisions) == 1


def test_a_tick_asks_for_a_pass_only_when_one_would_do_something() -> None:
    shell = asleep()
    shell.poll()
    assert not shell.reconciler.tick(KEY)
    shell.states["10.0.0.1"] = gateway_state(held=1)
    shell.poll()
    assert shell.reconciler.tick(KEY)
    assert not shell.reconciler.tick(("ml", "unknown"))


def test_a_tick_asks_nothing_of_the_api_server() -> None:
    shell = asleep()
    shell.cluster.objects.clear()
    shell.reconciler.tick(KEY)


def test_the_numbers_of_an_object_are_measured_until_it_is_gone() -> None:
    shell = served()
    labels = {"namespace": "ml", "deployment": "vision", "tier": "flash", "state": "desired"}

    def desired() -> float | None:
        return shell.metrics.registry.get_sample_value("glm_operator_replicas", labels)

    assert desired() == 2
    del shell.cluster.objects[names.KIND, *KEY]
    shell.once()
    assert desired() is None


def test_freed_gpus_concern_those_that_wait() -> None:
    shell = Shell.with_nodes("gpu-1", gpus=2)
    shell.cluster.put(glm_deployment())
    shell.until_still()
    shell.affected.clear()
    shell.cluster.put(gpu_node("gpu-2"))
    shell.feed()
    assert any(change.frees for change in shell.affected)


def test_a_request_for_a_node_that_is_refused_writes_the_status_once() -> None:
    asks = {"provisioning": "NodeAutoscaler", "nodeAutoscaler": {"nodeShape": "8xH100-80GB"}}
    item = glm_deployment()
    del item["spec"]["tiers"]["flash"]
    item["spec"]["tiers"]["flagship"]["placement"] = asks
    shell = Shell()
    shell.cluster.put(item)
    refuse_kind(shell.cluster, "Pod", RefusedError("a webhook says no", status=403))
    for _ in range(3):
        with pytest.raises(RefusedError):
            shell.once()
        shell.cluster.now += 1
    assert [one.verb for one in shell.cluster.writes].count("apply status") == 1
