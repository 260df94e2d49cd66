"""Clusters that grow: replicas that wait for a node which a node autoscaler makes."""

from __future__ import annotations

from typing import Any

import pytest

from cluster_model import GPU, ModelCluster, gpu_node
from glm_operator.api import names
from glm_operator.api.status import GLMDeploymentStatus
from glm_operator.kube.limits import limits_of
from glm_operator.plan import times
from glm_operator.plan.actions import CreatePod
from glm_operator.plan.observed import Hold, Node, Replica
from glm_operator.plan.replicas import is_waiting
from plan_builders import FLAGSHIP, FLASH, OFF, cluster, condition, nodes
from shared_cluster import SharedCluster

SHAPE = "8xH100-80GB"
L4 = ("NVIDIA-L4", 23_034)


def grows(tier: dict[str, Any], shape: str = SHAPE, **asked: Any) -> dict[str, Any]:
    """A tier that may ask a node autoscaler for nodes."""
    autoscaler = {"nodeShape": shape, **asked}
    placement = {"provisioning": "NodeAutoscaler", "nodeAutoscaler": autoscaler}
    return tier | {"placement": placement}


def waiting(found: ModelCluster) -> list[Replica]:
    return [pod for pod in found.pods.values() if is_waiting(pod)]


def step(found: ModelCluster, seconds: float = 5.0, passes: int = 4) -> None:
    """Some passes, with time between them."""
    for _ in range(passes):
        found.reconcile()
        found.advance(seconds)


def comes(found: ModelCluster, name: str, gpus: int = 8, **kind: Any) -> None:
    """A node is made."""
    found.nodes[name] = gpu_node(name, gpus, **kind)


def test_a_cluster_without_nodes_gets_one_pod_without_a_node() -> None:
    found = cluster(flagship=grows(FLAGSHIP))
    result = found.reconcile()
    (made,) = [one for one in result.actions if isinstance(one, CreatePod)]
    assert made.node == ""
    assert made.manifest["metadata"]["annotations"][names.ANNOTATION_ASKS_FOR_NODE] == SHAPE
    assert found.status["plan"]["flagship"]["gpusPerReplica"] == 2
    planned = condition(found, "Planned")
    asks = "flagship asks the node autoscaler with 1 replica for a node of 8 x H100-80GB"
    assert (planned["status"], planned["reason"]) == ("False", "WaitingForNodes")
    assert planned["message"] == f"{asks} (at most 1 at a time)."
    assert condition(found, "FlagshipAvailable")["reason"] == "WaitingForNodes"
    assert condition(found, "Ready")["status"] == "False"
    assert condition(found, "Degraded")["status"] == "False"
    since = times.to_text(found.now)
    found.reconcile()
    waits = condition(found, "Planned")["message"]
    assert waits == f"{asks} since {since} (at most 1 at a time)."
    told = {one.reason: one.type for one in result.events}
    assert told == {"ReplicaCreated": "Normal", "WaitingForNodes": "Normal"}


def test_without_provisioning_nothing_is_made() -> None:
    found = cluster(flagship=FLAGSHIP)
    step(found)
    assert found.created == []


@pytest.mark.parametrize("most", [1, 2, 5])
def test_no_more_replicas_wait_than_may(most: int) -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}, maxUnschedulable=most))
    step(found)
    assert len(waiting(found)) == len(found.pods) == min(3, most)


def test_a_replica_waits_on_without_another_action_or_status() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 2}))
    step(found)
    before = found.status
    found.advance(60)
    result = found.reconcile()
    assert result.actions == ()
    assert found.status == before


def test_a_node_that_comes_takes_the_replica_and_all_others_that_it_has_room_for() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}))
    step(found)
    (first,) = waiting(found)
    comes(found, "new-1")
    found.advance(1)
    found.settle()
    pods = found.pods.values()
    assert {pod.node for pod in pods} == {"new-1"}
    assert len(pods) == 3
    assert found.pods[first.name].uid == first.uid
    assert condition(found, "Ready")["status"] == "True"
    assert found.status["tiers"]["flagship"]["nodeRequests"] == {"waiting": 0, "failures": 0}


def test_nodes_come_one_by_one() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}))
    for number in range(3):
        step(found)
        assert len(waiting(found)) == 1
        comes(found, f"new-{number}", 2)
    found.settle()
    assert sorted(pod.node for pod in found.pods.values()) == ["new-0", "new-1", "new-2"]


def test_a_node_that_is_ready_before_the_scheduler_acts_is_left_to_the_waiting_replica() -> None:
    found = cluster(flagship=grows(FLAGSHIP))
    step(found)
    (first,) = waiting(found)
    comes(found, "new-1", 2)
    assert found.reconcile().actions == ()
    found.advance(1)
    assert found.pods[first.name].node == "new-1"


def test_a_node_whose_labels_come_later_takes_the_replica() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 2}))
    step(found)
    found.nodes["new-1"] = Node("new-1", allocatable={GPU: 8})
    step(found)
    assert {pod.node for pod in found.pods.values()} == {"new-1"}
    comes(found, "new-1")
    found.settle()
    assert len(found.pods) == 2
    assert condition(found, "Ready")["status"] == "True"


def test_replicas_that_have_room_are_pinned_before_a_node_is_asked_for() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP | {"replicas": 2}))
    found.reconcile()
    assert [pod.node for pod in found.pods.values()] == ["node-1"]
    found.advance(1)
    found.reconcile()
    assert sorted(pod.node for pod in found.pods.values()) == ["", "node-1"]


def test_gpus_that_become_free_on_a_node_take_the_waiting_replica() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP))
    found.set_node("node-1", holds=(Hold(GPU, 2, "ml", "job", "uid-job"),))
    step(found)
    (first,) = waiting(found)
    found.set_node("node-1", holds=())
    found.settle()
    (only,) = found.pods.values()
    assert (only.uid, only.node) == (first.uid, "node-1")


def test_a_replica_that_is_not_wanted_any_more_goes_before_those_that_serve() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP | {"replicas": 2}))
    step(found, passes=12)
    (last,) = waiting(found)
    found.edit(tiers__flagship__replicas=1)
    found.reconcile()
    assert found.deleted == [last.name]
    assert len(found.routable("flagship")) == 1


def test_provisioning_that_is_taken_back_withdraws_what_waits() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP | {"replicas": 2}))
    step(found, passes=12)
    (last,) = waiting(found)
    found.edit(tiers__flagship__placement__provisioning="None")
    found.reconcile()
    assert found.deleted == [last.name]
    assert condition(found, "Planned")["reason"] == "WaitingForGPUs"
    assert "nodeRequests" not in found.status["tiers"]["flagship"]


def test_an_edit_that_makes_another_engine_asks_anew() -> None:
    found = cluster(flagship=grows(FLAGSHIP))
    step(found)
    (before,) = waiting(found)
    found.edit(tiers__flagship__multimodal__maxImagesPerRequest=3)
    step(found)
    (after,) = waiting(found)
    assert after.revision != before.revision


def until(found: ModelCluster, seconds: float) -> None:
    """Time goes by in steps of a few seconds, with a pass after each."""
    end = found.now + seconds
    while found.now < end:
        found.advance(min(5.0, end - found.now))
        found.reconcile()


def test_when_no_node_comes_the_replica_is_withdrawn_and_tried_again_ever_later() -> None:
    found = cluster(flagship=grows(FLAGSHIP, timeoutSeconds=60))
    begun = found.now
    made: list[float] = []
    while found.now < begun + 1500:
        count = len(found.created)
        found.reconcile()
        assert len(found.pods) <= 1
        made += [found.now - begun] * (len(found.created) - count)
        found.advance(5)
    # 60 s of waiting each, then 60, 120, 240, 480 s of rest.
    assert made == [0, 120, 300, 600, 1140]


def test_a_withdrawal_is_told_with_the_schedulers_words_and_the_next_try() -> None:
    found = cluster(flagship=grows(FLAGSHIP, timeoutSeconds=60))
    found.reconcile()
    until(found, 60)
    assert found.pods == {}
    planned = condition(found, "Planned")
    assert planned["reason"] == "NodesDidNotCome"
    again = times.to_text(found.now + 60)
    assert planned["message"] == (
        "flagship needs 2 free GPUs on one node; no node of this cluster may host it; a node of"
        " 8 x H100-80GB did not come within 60 s for 1 replica: 0 nodes are available;"
        f" it is tried again at {again}."
    )
    assert condition(found, "Degraded")["reason"] == "NodesDidNotCome"
    until(found, 65)
    assert len(waiting(found)) == 1
    planned = condition(found, "Planned")
    assert planned["reason"] == "WaitingForNodes"
    assert "before that a node of 8 x H100-80GB did not come" in planned["message"]
    assert condition(found, "Degraded")["status"] == "True"


def test_a_scheduler_that_says_much_does_not_make_the_status_too_long() -> None:
    found = cluster(flagship=grows(FLAGSHIP, timeoutSeconds=60))
    found.reconcile()
    (pod,) = waiting(found)
    taints = ", ".join(f"1 node(s) had untolerated taint {{team: {one}}}" for one in range(999))
    found.change(pod.name, unschedulable=f"0/999 nodes are available: {taints}.")
    found.now += 60
    found.reconcile()
    assert GLMDeploymentStatus.model_validate(found.status).conditions
    assert "0/999 nodes are available: 1 node(s)" in condition(found, "Planned")["message"]


def test_a_node_that_comes_after_a_failure_ends_the_back_off() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 2}, timeoutSeconds=60))
    found.reconcile()
    until(found, 130)
    comes(found, "new-1", 2)
    step(found)
    requests = found.status["tiers"]["flagship"]["nodeRequests"]
    assert requests == {"waiting": 1, "failures": 0}


def test_an_edit_of_the_object_ends_the_back_off() -> None:
    found = cluster(flagship=grows(FLAGSHIP, timeoutSeconds=60))
    found.reconcile()
    until(found, 65)
    assert waiting(found) == []
    found.edit(tiers__flagship__placement__nodeAutoscaler__maxUnschedulable=2)
    found.reconcile()
    assert len(waiting(found)) == 1


def test_an_operator_that_dies_after_each_action_makes_no_replica_too_many() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}), flash=grows(FLASH | OFF))
    for actions in range(12):
        found.reconcile(stop_after=actions)
        found.advance(1)
        assert len(waiting(found)) <= 2


def test_a_small_node_that_comes_is_told_and_not_used_again() -> None:
    found = cluster(flagship=grows(FLAGSHIP, timeoutSeconds=60))
    step(found)
    found.nodes["small-1"] = Node("small-1", allocatable={GPU: 8})
    step(found, passes=1)
    (pod,) = found.pods.values()
    assert pod.node == "small-1"
    product, mib = L4
    comes(found, "small-1", product=product, mib=mib)
    found.change(pod.name, containers_ready=False)
    found.reconcile()
    assert found.deleted == [pod.name]
    message = condition(found, "Degraded")["message"]
    assert f"{pod.name} came to node small-1, whose GPUs cannot hold it: " in message
    assert "per GPU" in message
    until(found, 70)
    assert len(waiting(found)) == 1, "it is tried again, and never on that node"


def test_a_pod_for_a_new_node_avoids_gpus_that_are_too_small_and_asks_for_none() -> None:
    found = cluster(flagship=grows(FLAGSHIP) | {})
    comes(found, "small-1", product="NVIDIA-Odd-1", mib=16_000)
    result = found.reconcile()
    (made,) = [one for one in result.actions if isinstance(one, CreatePod)]
    affinity = made.manifest["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    (one,) = term["matchExpressions"]
    assert (one["key"], one["operator"]) == ("nvidia.com/gpu.product", "NotIn")
    assert {"NVIDIA-Odd-1", "NVIDIA-L4", "Tesla-T4"} <= set(one["values"])
    assert "NVIDIA-H100-80GB-HBM3" not in one["values"]
    (weighted,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert weighted["preference"]["matchExpressions"] == [
        {"key": one["key"], "operator": "In", "values": ["NVIDIA-H100-80GB-HBM3"]}
    ]


def test_a_selector_of_the_user_is_carried_to_the_pod() -> None:
    tier = grows(FLAGSHIP)
    tier["placement"] |= {"nodeSelector": {"karpenter.sh/nodepool": "h100"}}
    result = cluster(flagship=tier).reconcile()
    (made,) = [one for one in result.actions if isinstance(one, CreatePod)]
    assert made.manifest["spec"]["nodeSelector"] == {"karpenter.sh/nodepool": "h100"}


def test_a_shape_that_could_not_host_is_rejected_with_its_figures() -> None:
    found = cluster(flagship=grows(FLAGSHIP, "1xL4-24GB"))
    step(found)
    assert found.created == []
    planned = condition(found, "Planned")
    assert planned["reason"] == "DoesNotFit"
    assert "1 x NVIDIA-L4" in planned["message"]


def test_without_a_shape_nodes_like_those_that_are_there_are_asked_for() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP | {"replicas": 2}, ""))
    step(found)
    assert len(waiting(found)) == 1
    assert "for a node since" in condition(found, "Planned")["message"]


def test_without_a_shape_and_without_nodes_the_way_out_is_told() -> None:
    found = cluster(flagship=grows(FLAGSHIP, ""))
    step(found)
    assert found.created == []
    assert "placement.nodeAutoscaler.nodeShape" in condition(found, "Planned")["message"]


def test_mode_plan_tells_what_would_be_asked_for_and_makes_nothing() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}), mode="Plan")
    step(found)
    assert found.created == []
    assert condition(found, "Planned")["message"] == (
        "flagship would ask the node autoscaler with 1 replica for a node of 8 x H100-80GB"
        " (at most 1 at a time), 2 replicas more after that."
    )


def test_paused_asks_for_no_node() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 2}, maxUnschedulable=2))
    found.reconcile()
    found.pods.popitem()
    found.edit(mode="Paused")
    step(found)
    assert len(waiting(found)) == 1


def test_a_rollout_buys_no_node() -> None:
    found = cluster(2, flagship=grows(FLAGSHIP))
    found.settle()
    found.edit(tiers__flagship__multimodal__maxImagesPerRequest=3)
    found.settle()
    assert [pod.node for pod in found.pods.values()] == ["node-1"]
    assert not any(pod.asks for pod in found.pods.values())


def test_flash_grows_with_the_load_by_as_many_as_may_wait() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 6}
    found = cluster(1, flagship=None, flash=grows(FLASH | {"scaling": scaling}, "1xH100-80GB"))
    found.settle()
    found.in_flight = dict.fromkeys(found.routable("flash"), 40)
    step(found)
    assert found.status["tiers"]["flash"]["desiredReplicas"] == 2
    assert len(waiting(found)) == 1
    comes(found, "new-1", 1)
    step(found)
    assert found.status["tiers"]["flash"]["desiredReplicas"] == 3
    found.in_flight = {}
    until(found, 400)
    assert waiting(found) == []
    assert found.status["tiers"]["flash"]["desiredReplicas"] == 1


def test_a_node_is_not_bought_for_requests_that_are_gone() -> None:
    idle = {"minReplicas": 0, "scaleToZero": {"idleSeconds": 60}}
    found = cluster(flagship=None, flash=grows(FLASH | {"scaling": idle}))
    found.reconcile()
    until(found, 130)
    assert found.pods == {}, "nobody asked yet"
    found.held["flash"] = 1
    until(found, 30)
    assert len(waiting(found)) == 1
    found.held["flash"] = 0
    until(found, 70)
    assert found.pods == {}
    assert condition(found, "FlashAvailable")["reason"] == "ScaledToZero"


def test_what_waits_for_a_node_keeps_no_gpu_from_others() -> None:
    big = grows(FLAGSHIP | {"parallelism": {"tensor": "8"}})
    found = cluster(4, flagship=big, flash=FLASH | OFF | {"replicas": 4})
    step(found)
    assert len(waiting(found)) == 1
    assert len([pod for pod in found.pods.values() if pod.node == "node-1"]) == 4
    assert found.reconcile().claims == ()


def test_gpus_that_are_kept_for_others_are_not_given_to_a_pod_without_a_node() -> None:
    shared = SharedCluster(nodes(8))
    shared.tenants["node-1"] = (Hold(GPU, 4, "other", "job", "uid-job"),)
    shared.put("older", 3600.0, flagship=FLAGSHIP | {"parallelism": {"tensor": "8"}})
    shared.put("younger", 1.0, flagship=grows(FLAGSHIP))
    for name in ("older", "younger") * 2:
        shared.pass_(name)
        shared.advance(5)
    assert shared.objects["younger"].pods == {}
    assert "8 are kept for ml/older flagship" in shared.message("younger")


def test_what_waits_for_a_new_node_leaves_those_that_are_there_to_others() -> None:
    shared = SharedCluster(nodes(4))
    shared.put("older", 3600.0, flagship=grows(FLAGSHIP | {"parallelism": {"tensor": "8"}}))
    shared.put("younger", 1.0, flash=FLASH | OFF | {"replicas": 4})
    shared.settle(["older", "younger"])
    assert shared.gpus("younger") == 4
    assert len(waiting(shared.objects["older"])) == 1


def test_no_node_is_asked_for_what_a_quota_would_not_admit() -> None:
    found = cluster(flagship=grows(FLAGSHIP | {"replicas": 3}, maxUnschedulable=3))
    hard = {"requests.nvidia.com/gpu": "4"}
    quota = {"metadata": {"name": "gpus"}, "spec": {"hard": hard}, "status": {"hard": hard}}
    found.limits = limits_of([quota], [])
    found.reconcile()
    assert len(waiting(found)) == 2
