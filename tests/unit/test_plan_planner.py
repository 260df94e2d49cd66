"""Whole plans, told as stories on a small cluster in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster_model import GPU, START_SECONDS, ModelCluster, gpu_node
from glm_operator.plan.actions import Apply, CreatePod, DeleteChild, PatchPod
from glm_operator.plan.observed import Hold
from glm_operator.plan.planner import plan
from glm_serving.gateway.config import parse
from plan_builders import FLAGSHIP, FLASH, OFF, cluster, condition, settled, uids

ZERO = {
    "scaling": {
        "minReplicas": 0,
        "maxReplicas": 3,
        "scaleToZero": {"idleSeconds": 60, "holdTimeoutSeconds": 300},
    }
}


def test_what_pods_need_is_written_before_the_pods() -> None:
    kinds = [
        action.manifest["kind"]
        for action in cluster(8, flash=FLASH).plan().actions
        if isinstance(action, Apply | CreatePod)
    ]
    assert kinds[-2:] == ["Pod", "Pod"]
    assert "Pod" not in kinds[:-2]
    assert kinds.count("ControllerRevision") == 2


def test_a_settled_object_is_ready_and_needs_nothing() -> None:
    made = settled(8, flash=FLASH)
    assert condition(made, "Ready")["status"] == "True"
    result = made.plan()
    assert (result.actions, result.events, result.verify) == ((), (), ())
    assert result.status == made.status


def test_an_object_that_is_being_deleted_is_left_to_its_owner_references() -> None:
    made = settled(8)
    observed = replace(made.observed(), deleting=True)
    result = plan(observed, made.now, made.defaults)
    assert (result.actions, result.status) == ((), made.status)


# Room.


def test_what_fits_nowhere_takes_nothing_and_says_why() -> None:
    made = cluster(1, flash=FLASH)
    assert made.reconcile().actions == ()
    planned = condition(made, "Planned")
    assert (planned["status"], planned["reason"]) == ("False", "DoesNotFit")
    assert planned["message"].startswith("flagship: tensor 2 on 1 x NVIDIA-H100")


def test_gpus_that_others_hold_are_named() -> None:
    made = cluster(4)
    made.set_node("node-1", holds=(Hold(GPU, 3, "ml", "other-pod", "u"),))
    assert made.reconcile().actions == ()
    assert condition(made, "Planned")["message"] == (
        "flagship needs 2 free GPUs on one node; best node node-1 has 1 free, "
        "3 held by ml/other-pod. Flagship would find room with a checkpoint in INT4 (tensor 1, "
        "68608 tokens of context)."
    )


def test_own_flash_replicas_that_would_make_room_are_counted() -> None:
    made = settled(4, flagship=None, flash={**FLASH, **OFF, "replicas": 4})
    made.edit(tiers={"flagship": FLAGSHIP, "flash": {**FLASH, **OFF, "replicas": 4}})
    made.reconcile()
    help_ = made.status["plan"]["flagship"]["help"]
    assert help_[0] == "2 flash replicas fewer on node-1"
    assert made.reconcile().actions == ()


def test_what_nothing_would_help_gets_no_advice() -> None:
    made = cluster(4)
    made.set_node("node-1", holds=(Hold(GPU, 4, "ml", "other-pod", "u"),))
    made.reconcile()
    assert made.status["plan"]["flagship"]["help"] == []


def test_what_has_no_room_for_all_replicas_is_not_advised() -> None:
    # Five replicas in FP8 need five GPUs as well.
    made = cluster(4, flagship=None, flash=FLASH | OFF | {"replicas": 5})
    made.reconcile()
    assert condition(made, "Planned")["message"] == (
        "flash needs 1 free GPU on one node; best node node-1 has 0 free,"
        " 4 for other replicas of this object."
    )


def test_what_has_room_for_all_replicas_is_advised() -> None:
    made = cluster(3, flagship=FLAGSHIP | {"replicas": 2})
    made.reconcile()
    (help_,) = made.status["plan"]["flagship"]["help"]
    assert help_ == "a checkpoint in INT4 (tensor 1, 68608 tokens of context)"
    smaller = FLAGSHIP["model"] | {"quantization": "INT4"}
    made.edit(tiers__flagship={"model": smaller, "replicas": 2})
    made.settle()
    assert len(made.of("flagship")) == 2


def test_a_better_node_that_comes_later_is_not_said_to_lack_room() -> None:
    made = cluster(flagship=None, flash=FLASH | OFF)
    made.nodes["node-0"] = gpu_node("node-0", 4, "NVIDIA-L4", 23_034)
    made.settle()
    made.nodes["node-1"] = gpu_node("node-1", 8)
    made.reconcile()
    shown = made.status["plan"]["flash"]["alternatives"]
    (better,) = [one for one in shown if one["option"].startswith("tensor 1 on NVIDIA-H100")]
    assert better["reason"] == "DecidedBefore"


def test_a_new_object_begins_as_a_whole_or_not_at_all() -> None:
    made = cluster(2, flash=FLASH)
    assert made.reconcile().actions == ()
    made.nodes["node-2"] = gpu_node("node-2", 1)
    made.settle()
    assert len(made.pods) == 2


def test_a_plan_that_lacks_gpus_looks_again_by_itself() -> None:
    made = cluster(2)
    made.set_node("node-1", holds=(Hold(GPU, 2, "ml", "x", "u"),))
    assert made.plan().requeue_after_seconds == 30


def test_flash_leaves_the_gpus_that_a_lost_flagship_waits_for() -> None:
    made = settled(2, 2, flash=FLASH | {"scaling": {"mode": "Off"}}, flagship=FLAGSHIP)
    flagship_node = made.of("flagship")[0].node
    other = "node-1" if flagship_node == "node-2" else "node-2"
    made.set_node(flagship_node, ready=False)
    made.edit(tiers__flash__replicas=2)
    made.reconcile()
    assert [pod.node for pod in made.of("flash")] == [other]


def test_a_size_that_has_room_now_comes_before_a_smaller_one_that_has_none() -> None:
    made = ModelCluster(
        {"tiers": {"flagship": FLAGSHIP}},
        {
            "h100": gpu_node("h100", 2),
            "a100": gpu_node("a100", 8, "NVIDIA-A100-SXM4-40GB", 40_960),
        },
    )
    made.set_node("h100", holds=(Hold(GPU, 1, "ml", "x", "u"),))
    made.reconcile()
    assert [(pod.node, pod.gpus) for pod in made.pods.values()] == [("a100", 8)]


# Modes.


def test_plan_mode_publishes_the_plan_and_makes_nothing() -> None:
    made = cluster(8, flash=FLASH, mode="Plan")
    assert made.reconcile().actions == ()
    assert made.status["plan"]["flagship"]["nodes"] == ["node-1"]
    assert made.status["plan"]["flagship"]["tensor"] == 2
    assert condition(made, "Ready")["reason"] == "PlanOnly"
    assert condition(made, "Planned")["status"] == "True"


def test_plan_mode_touches_nothing_that_runs() -> None:
    made = settled(8, flash=FLASH)
    before = uids(made)
    made.edit(mode="Plan", tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.settle()
    assert uids(made) == before
    assert made.routable("flagship")


def test_paused_acts_on_no_edit() -> None:
    made = settled(8, flash=FLASH)
    before = uids(made)
    made.edit(
        mode="Paused",
        tiers__flagship__multimodal={"maxImagesPerRequest": 3},
        tiers__flagship__replicas=2,
        routing={"autoModel": "other"},
    )
    made.settle()
    assert uids(made) == before
    ready = condition(made, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Paused")


def test_paused_stays_ready_where_nothing_was_edited() -> None:
    made = settled(8)
    made.edit(mode="Paused")
    made.settle()
    assert condition(made, "Ready")["status"] == "True"


def test_paused_replaces_a_lost_replica_on_its_recorded_plan() -> None:
    made = settled(8, 8)
    lost = made.of("flagship")[0]
    made.edit(mode="Paused", tiers__flagship__multimodal={"maxImagesPerRequest": 3})
    made.set_node(lost.node, ready=False)
    made.settle()
    successor = next(pod for pod in made.of("flagship") if pod.node != lost.node)
    assert successor.revision == lost.revision
    assert made.routable("flagship") == [successor.name]


def test_paused_does_not_scale() -> None:
    made = settled(8, flash=FLASH)
    made.edit(mode="Paused")
    made.in_flight = dict.fromkeys(made.routable("flash"), 80)
    made.settle()
    assert len(made.of("flash")) == 1


# Verification and routing.


def test_a_replica_is_routable_after_its_checks_and_not_before() -> None:
    made = cluster(8)
    made.reconcile()
    made.advance(START_SECONDS)
    result = made.plan()
    assert result.verify == tuple(made.pods)
    assert made.routable("flagship") == []
    made.settle()
    assert made.routable("flagship") == list(made.pods)


def test_a_restarted_container_is_out_of_routing_until_it_is_checked_again() -> None:
    made = settled(8)
    name = made.routable("flagship")[0]
    made.change(name, container_id="another")
    result = made.plan()
    assert result.verify == (name,)
    assert isinstance(result.actions[0], PatchPod)
    made.settle()
    assert made.routable("flagship") == [name]


def test_an_engine_that_fails_its_checks_never_serves_and_says_why() -> None:
    made = cluster(8)
    made.reconcile()
    made.advance(START_SECONDS)
    name = next(iter(made.pods))
    made.change(
        name,
        verified=False,
        verified_container=f"container-{made.pods[name].uid}",
        verify_reason="ToolParserFailed",
        verify_message="the answer was text, not a call",
    )
    made.status = dict(made.plan().status)
    assert made.routable("flagship") == []
    for kind in ("Ready", "FlagshipAvailable", "ToolCallVerified"):
        found = condition(made, kind)
        assert found["reason"] == "ToolParserFailed"
        assert found["message"] == f"{name}: the answer was text, not a call"


# Flash.


def test_flash_grows_with_its_work_and_sleeps_without() -> None:
    made = settled(8, flash=FLASH | ZERO)
    assert len(made.of("flash")) == 1
    made.in_flight = dict.fromkeys(made.routable("flash"), 20)
    made.settle()
    assert len(made.of("flash")) == 3
    made.in_flight = {}
    made.advance(61)
    made.settle()
    assert made.of("flash") == []
    assert condition(made, "FlashAvailable")["reason"] == "ScaledToZero"
    assert condition(made, "Ready")["status"] == "True"
    assert made.status["tiers"]["flash"]["summary"] == "0/0"


def test_a_held_request_wakes_flash() -> None:
    made = settled(8, flash=FLASH | ZERO)
    made.advance(61)
    made.settle()
    made.held["flash"] = 1
    assert made.reconcile().scaled == {"flash": "Wake"}
    assert len(made.of("flash")) == 1


def test_a_second_look_under_the_lock_still_tells_why_flash_grew() -> None:
    made = settled(8, flash=FLASH)
    made.in_flight = dict.fromkeys(made.routable("flash"), 20)
    made.scaling = made.plan().scaling
    again = made.plan()
    assert again.scaled == {"flash": "Load"}
    assert [one.message for one in again.events if one.reason == "ScaledUp"] == [
        "flash from 1 to 3: Load."
    ]


def test_a_restart_of_the_operator_wakes_nothing() -> None:
    made = settled(8, flash=FLASH | ZERO)
    made.advance(61)
    made.settle()
    made.scaling = {}
    made.settle()
    assert made.of("flash") == []


def test_flash_grows_no_further_than_there_are_gpus() -> None:
    made = settled(4, flash=FLASH)
    made.in_flight = dict.fromkeys(made.routable("flash"), 500)
    made.settle()
    assert len(made.of("flash")) == 2
    assert condition(made, "Planned")["status"] == "True"
    assert condition(made, "FlashAvailable")["message"] == (
        "2 of 2 replicas serve. The load asks for more: one needs 1 free GPU on one "
        "node; best node node-1 has 0 free, 2 held by ml/vision-flagship-"
        f"{made.of('flagship')[0].revision}-0, 1 held by ml/{made.routable('flash')[0]}, "
        "1 by others."
    )


def test_flash_that_cannot_wake_says_what_it_lacks() -> None:
    made = settled(3, flash=FLASH | ZERO)
    made.advance(61)
    made.settle()
    made.set_node("node-1", holds=(Hold(GPU, 1, "ml", "thief", "u"),))
    made.held["flash"] = 1
    made.reconcile()
    found = condition(made, "FlashAvailable")
    assert (found["status"], found["reason"]) == ("False", "WaitingForGPUs")
    assert "1 held by ml/thief" in found["message"]
    made.set_node("node-1", holds=())
    made.settle()
    assert condition(made, "FlashAvailable")["status"] == "True"


@pytest.mark.parametrize("mode", ["External", "Off"])
def test_flash_follows_the_scale_subresource(mode: str) -> None:
    made = settled(8, flash=FLASH | {"scaling": {"mode": mode}, "replicas": 3})
    assert len(made.of("flash")) == 3
    made.edit(tiers__flash__replicas=1)
    made.settle()
    assert len(made.of("flash")) == 1


def test_a_tier_that_is_taken_out_leaves_nothing_behind() -> None:
    made = settled(8, flash=FLASH)
    del made.spec["tiers"]["flash"]
    made.edit()
    assert any(isinstance(one, DeleteChild) for one in made.plan().actions)
    made.settle()
    assert [pod.tier for pod in made.pods.values()] == ["flagship"]
    assert not [name for _, name in made.children if "flash" in name]
    assert not [name for name in made.revisions if "flash" in name]
    assert condition(made, "FlashAvailable")["reason"] == "NotWanted"


def test_old_records_are_thrown_away() -> None:
    made = settled(8)
    for images in range(1, 9):
        made.edit(tiers__flagship__multimodal={"maxImagesPerRequest": images})
        made.settle()
    assert len(made.revisions) == 5


def test_the_gateway_promises_only_what_every_serving_replica_holds() -> None:
    made = settled(4, flagship=FLAGSHIP | {"context": {"maxModelLen": 8192}})
    made.edit(tiers__flagship__context={"maxModelLen": 65_536})
    made.reconcile()
    config = made.children["ConfigMap", "vision-gateway"]["data"]["config.json"]
    assert '"contextTokens": 8192' in config
    made.settle()
    config = made.children["ConfigMap", "vision-gateway"]["data"]["config.json"]
    assert '"contextTokens": 65536' in config


def test_a_child_that_somebody_changed_is_written_again() -> None:
    made = settled(8)
    made.children["Service", "vision-flagship"]["spec"]["selector"] = {"app": "mine"}
    (action,) = made.plan().actions
    assert isinstance(action, Apply)
    assert action.manifest["kind"] == "Service"


def test_a_pod_that_the_scheduler_has_not_placed_yet_is_given_its_room() -> None:
    made = cluster(2, flagship=FLAGSHIP | {"placement": {"pinning": "None"}})
    made.reconcile()
    made.change(next(iter(made.pods)), node="", bound=False)
    made.edit(tiers__flagship__replicas=2)
    assert not [one for one in made.plan().actions if isinstance(one, CreatePod)]


def test_a_context_that_is_short_for_want_of_room_is_told_with_the_way_out() -> None:
    made = cluster(8, flagship={**FLAGSHIP, "context": {"fullLengthSequences": 4}})
    made.set_node("node-1", holds=(Hold(GPU, 6, "ml", "other-pod", "u"),))
    made.settle()
    shown = made.status["plan"]["flagship"]
    assert shown["tensor"] == 2
    assert "waits for room instead" in shown["warnings"][0]
    assert {one["reason"] for one in shown["alternatives"]} == {"DecidedBefore"}


def test_nodes_with_too_little_memory_are_told_before_a_pod_is_made() -> None:
    made = cluster(8)
    made.set_node("node-1", memory_bytes=16 << 30)
    assert made.reconcile().actions == ()
    message = condition(made, "Planned")["message"]
    assert "no node of this cluster may host it: node-1 gives pods" in message


def test_rules_and_degradation_reach_the_gateways_and_touch_no_pod() -> None:
    made = settled(8)
    pods = dict(made.pods)
    rule = {"name": "nightly", "tier": "flagship", "match": {"headers": {"x-batch": "nightly"}}}
    made.edit(routing={"rules": [rule], "degradation": "Degrade"})
    made.settle()
    config = parse(made.children["ConfigMap", "vision-gateway"]["data"]["config.json"].encode())
    (told,) = config.rules
    assert (told.name, told.tier) == ("nightly", "flagship")
    assert told.match.headers == {"x-batch": "nightly"}
    assert config.degradation == "Degrade"
    assert dict(made.pods) == pods
