"""The tier text: planned, recorded, verified and routed to like the flagship, without images."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from glm_operator.runtime.reconciler import target_of
from plan_builders import FLAGSHIP, FLASH, TEXT, cluster, condition, settled

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


def test_the_gateway_is_told_that_text_takes_no_images() -> None:
    made = settled(8, **of(("flash", "text")))
    document = made.children["ConfigMap", "vision-gateway"]["data"]["config.json"]
    routes = json.loads(document)["tiers"]
    assert routes["text"] == {
        "model": "glm-4.6",
        "contextTokens": 202_752,
        "maxImages": 0,
        "maxVideos": 0,
        "holdTimeoutSeconds": 300,
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
