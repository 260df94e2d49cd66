"""Replicas that are lost, fail, cannot be placed or leave, told as whole plans."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from cluster_model import GPU, gpu_node
from glm_operator.plan.actions import Apply, CreatePod, DeletePod, PatchPod
from glm_operator.plan.observed import Hold
from glm_operator.plan.planner import plan
from plan_builders import FLAGSHIP, FLASH, OFF, cluster, settled


def test_a_lost_node_takes_its_replica_out_of_routing_before_anything_else() -> None:
    made = settled(8, 8, flash=FLASH)
    lost = made.of("flagship")[0]
    made.set_node(lost.node, ready=False)
    first = made.plan().actions[0]
    assert isinstance(first, PatchPod)
    made.settle()
    successor = made.routable("flagship")
    assert successor
    assert successor != [lost.name]
    assert made.pods[successor[0]].node != lost.node


def test_a_node_that_comes_back_makes_one_replica_superfluous() -> None:
    made = settled(8, 8)
    lost = made.of("flagship")[0]
    made.set_node(lost.node, ready=False)
    made.settle()
    made.set_node(lost.node, ready=True)
    made.settle()
    assert len(made.of("flagship")) == 1
    assert made.routable("flagship")


def test_a_pod_that_terminates_on_a_dead_node_keeps_its_name_and_its_gpus() -> None:
    made = settled(8, 8)
    lost = made.of("flagship")[0]
    made.set_node(lost.node, ready=False)
    made.execute(DeletePod(lost.name, lost.uid, None, "the node controller did"))
    made.settle()
    assert lost.name in made.pods
    assert made.routable("flagship") == [lost.name.removesuffix("-0") + "-1"]


def test_a_failed_pod_is_replaced_at_once_and_then_more_and_more_slowly() -> None:
    made = settled(8)
    waits = []
    for _ in range(4):
        name = made.of("flagship")[0].name
        made.change(name, phase="Failed", failed_at=made.now, created_at=made.now, failure="x")
        before = made.now
        while not made.of("flagship"):
            wait = made.reconcile().requeue_after_seconds
            made.advance(0.0 if made.of("flagship") else wait or 1.0)
        waits.append(made.now - before)
    assert waits == [0.0, 10.0, 20.0, 40.0]


def test_a_deleted_pod_comes_back_on_its_node_though_another_would_suit_better() -> None:
    made = settled(8)
    pod = made.of("flagship")[0]
    made.nodes["node-0"] = gpu_node("node-0", 2)
    made.execute(DeletePod(pod.name, pod.uid, None, "a person did"))
    made.settle()
    assert [one.node for one in made.of("flagship")] == [pod.node]


def test_a_deleted_pod_does_not_wait_for_its_node_while_another_has_room() -> None:
    made = settled(2, 2)
    pod = made.of("flagship")[0]
    made.execute(DeletePod(pod.name, pod.uid, None, "a person did"))
    (created,) = [one for one in made.plan().actions if isinstance(one, CreatePod)]
    assert created.node != pod.node


def test_an_unpinned_replica_is_counted_once_before_it_is_bound() -> None:
    made = cluster(2, 2, flagship=FLAGSHIP | {"placement": {"pinning": "None"}})
    made.reconcile()
    made.edit(tiers__flagship__replicas=2)
    (pod,) = made.pods.values()
    counted = replace(made.nodes["node-1"], holds=(Hold(GPU, 2, "ml", pod.name, pod.uid),))
    nodes = (counted, made.nodes["node-2"])
    observed = replace(made.observed(), replicas=(replace(pod, node=""),), nodes=nodes)
    found = plan(observed, made.now, made.defaults)
    assert [one.node for one in found.actions if isinstance(one, CreatePod)] == ["node-2"]


def test_a_replica_that_its_node_cannot_take_comes_up_on_another() -> None:
    made = cluster(2, 2)
    made.refusing = {"node-1"}
    for _ in range(30):
        made.reconcile()
        made.advance(10)
    assert [one.node for one in made.of("flagship")] == ["node-2"]
    assert made.routable("flagship")


def test_a_replica_that_no_node_can_take_says_so_and_holds_no_more_than_its_places() -> None:
    made = cluster(2, 2, 2, 2)
    made.refusing = set(made.nodes)
    for _ in range(30):
        made.reconcile()
        made.advance(10)
        assert len(made.of("flagship")) <= 2
    found = {one["type"]: one for one in made.status["conditions"]}
    assert found["Degraded"]["reason"] == "Unschedulable"
    assert "Insufficient memory" in found["FlagshipAvailable"]["message"]


def test_a_replica_that_no_node_can_take_is_tried_less_and_less_often() -> None:
    made = cluster(2, 2, 2)
    made.refusing = set(made.nodes)
    begun = []
    for _ in range(200):
        begun += [made.now for one in made.reconcile().actions if isinstance(one, CreatePod)]
        made.advance(15)
    waited = [after - before for before, after in pairwise(begun)]
    assert waited == [15, 30, 60, 120, 240, 480, 960, 960]


def test_the_plan_looks_again_when_a_refused_replica_has_waited_for_long() -> None:
    made = cluster(2, 2)
    made.refusing = {"node-1"}
    made.reconcile()
    made.advance(10)
    assert made.reconcile().requeue_after_seconds == 5.0


# Draining.


def test_a_busy_replica_finishes_its_requests_before_it_goes() -> None:
    made = settled(8, flash=FLASH | OFF | {"replicas": 2})
    made.in_flight = dict.fromkeys(made.routable("flash"), 1)
    made.edit(tiers__flash__replicas=1)
    for _ in range(20):
        made.reconcile()
        made.advance(5)
    assert len(made.of("flash")) == 2
    assert len(made.routable("flash")) == 1
    made.in_flight = {}
    made.settle()
    assert len(made.of("flash")) == 1


def test_a_drain_ends_by_its_time_limit() -> None:
    made = settled(8, flash=FLASH | OFF | {"replicas": 2, "drain": {"timeoutSeconds": 60}})
    made.in_flight = dict.fromkeys(made.routable("flash"), 1)
    made.edit(tiers__flash__replicas=1)
    made.reconcile()
    made.advance(59)
    assert not [one for one in made.plan().actions if isinstance(one, DeletePod)]
    made.advance(1)
    assert [one for one in made.plan().actions if isinstance(one, DeletePod)]


def test_demand_that_returns_takes_a_drain_back_and_makes_nothing() -> None:
    made = settled(8, flash=FLASH | OFF | {"replicas": 2})
    made.in_flight = dict.fromkeys(made.routable("flash"), 1)
    made.edit(tiers__flash__replicas=1)
    made.reconcile()
    assert len(made.routable("flash")) == 1
    made.edit(tiers__flash__replicas=2)
    kinds = {type(one) for one in made.reconcile().actions} - {Apply}
    assert kinds == {PatchPod}
    assert len(made.routable("flash")) == 2
