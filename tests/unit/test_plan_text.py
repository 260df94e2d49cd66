"""The tier text: planned, recorded, verified and routed to like the flagship, without images."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.plan.actions import CreatePod
from glm_operator.plan.observed import ScalingMemory
from glm_operator.runtime.reconciler import target_of
from plan_builders import FLAGSHIP, FLASH, OFF, TEXT, cluster, condition, settled

TIERS = {"flagship": FLAGSHIP, "flash": FLASH, "text": TEXT}
COMBINATIONS = [names for count in (1, 2, 3) for names in combinations(TIERS, count)]


def of(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: TIERS[name] if name in names else None for name in TIERS}


@pytest.mark.parametrize("names", COMBINATIONS, ids="-".join)
def test_every_combination_of_tiers_becomes_ready(names: tuple[str, ...]) -> None:
    made = settled(8, **of(names))
    assert condition(made, "Ready")["status"] == "True"
    assert [pod.tier for pod in made.pods.values() if pod.routable] == sorted(
        names, key=lambda name: name == "flash"
    )
    assert list(made.status["tiers"]) == list(names)


@pytest.mark.parametrize("names", COMBINATIONS, ids="-".join)
def test_a_tier_that_the_object_does_not_have_is_not_wanted(names: tuple[str, ...]) -> None:
    made = settled(8, **of(names))
    shown = condition(made, "TextAvailable")
    if "text" in names:
        assert (shown["status"], shown["reason"]) == ("True", "Available")
    else:
        assert (shown["status"], shown["reason"]) == ("False", "NotWanted")


def test_text_that_does_not_fit_is_named_and_takes_nothing() -> None:
    made = cluster(2, flagship=None, flash=FLASH, text=TEXT)
    assert made.reconcile().actions == ()
    planned = condition(made, "Planned")
    assert planned["reason"] == "DoesNotFit"
    assert planned["message"].startswith("text: tensor")


def test_the_whole_context_of_the_model_is_offered() -> None:
    assert settled(8, flagship=None, text=TEXT).status["plan"]["text"]["maxModelLen"] == 202_752


def routes_of(made: ModelCluster) -> dict[str, dict[str, Any]]:
    """What the gateways are told of each tier."""
    document = made.children["ConfigMap", "vision-gateway"]["data"]["config.json"]
    return dict(json.loads(document)["tiers"])


def joining(made: ModelCluster) -> dict[str, bool]:
    return {name: route["joining"] for name, route in routes_of(made).items()}


def test_the_tiers_that_an_object_begins_with_are_waited_for() -> None:
    made = cluster(8, **of(("flash", "text")))
    made.reconcile()
    assert joining(made) == {"flash": False, "text": False}


def test_a_tier_added_later_joins_when_it_serves_and_stays_when_it_is_lost() -> None:
    made = settled(8, **of(("flash",)))
    made.edit(tiers__text=TEXT)
    made.reconcile()
    assert joining(made) == {"flash": False, "text": True}
    made.settle()
    assert joining(made) == {"flash": False, "text": False}
    made.change(made.of("text")[0].name, containers_ready=False)
    made.reconcile()
    assert joining(made) == {"flash": False, "text": False}


def test_a_tier_that_joins_is_no_edit_that_waits_while_paused() -> None:
    made = settled(8, **of(("flash",)))
    made.edit(tiers__text=TEXT)
    made.reconcile()
    made.edit(mode="Paused")
    made.settle()
    assert condition(made, "Planned")["status"] == "True"
    assert joining(made)["text"]
    made.edit(mode="Live")
    made.settle()
    assert not joining(made)["text"]


def test_flash_that_sleeps_before_it_ever_served_can_be_woken() -> None:
    made = settled(8, flagship=FLAGSHIP)
    made.edit(tiers__flash=FLASH | {"scaling": {"minReplicas": 0}})
    made.scaling = {"flash": ScalingMemory(desired=0)}
    made.reconcile()
    assert made.of("flash") == []
    assert joining(made) == {"flagship": False, "flash": False}


def test_the_gateway_is_told_that_text_takes_no_images() -> None:
    made = settled(8, **of(("flash", "text")))
    routes = routes_of(made)
    assert routes["text"] == {
        "model": "glm-4.6",
        "contextTokens": 202_752,
        "maxImages": 0,
        "maxVideos": 0,
        "holdTimeoutSeconds": 300,
        "joining": False,
        "service": "vision-text",
        "endpoints": [],
    }
    assert routes["flash"]["maxImages"] == 16


@pytest.mark.parametrize(("tier", "sees"), [("flash", True), ("text", False)])
def test_what_a_replica_is_asked_follows_from_its_record(tier: str, sees: bool) -> None:
    made = settled(8, **of(("flash", "text")))
    observed = made.observed()
    replica = next(one for one in observed.replicas if one.tier == tier)
    assert target_of(("ml", "vision"), replica, observed).sees is sees


def test_text_comes_back_before_flash_may_break_its_node() -> None:
    flash = {**FLASH, **OFF, "replicas": 1}
    made = settled(5, **(of(("flash", "text")) | {"flash": flash}))
    del made.pods[made.of("text")[0].name]
    made.edit(tiers__flash__replicas=5)
    created = [one for one in made.plan().actions if isinstance(one, CreatePod)]
    assert [one.gpus for one in created] == [4]
