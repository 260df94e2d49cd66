"""What an edit would restart: the prediction, and that the operator does just that."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import ModelCluster
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.plan.edits import Effect, TierEdit, edits, recorded_defaults
from glm_operator.plan.observed import Defaults
from plan_builders import FLAGSHIP, FLASH, OFF, settled, uids

BOTH: dict[str, Any] = {"flagship": FLAGSHIP, "flash": FLASH | OFF}
MODEL = FLAGSHIP["model"]


def predicted(cluster: ModelCluster, tiers: Any, **spec: Any) -> dict[str, TierEdit]:
    """What applying these tiers to the running object would do, by tier."""
    observed = cluster.observed()
    raw = observed.object.model_dump(mode="json", by_alias=True)
    raw["spec"] |= {"tiers": tiers, **spec}
    edited = replace(observed, object=GLMDeployment.parse(raw))
    defaults = recorded_defaults(observed, Defaults())
    found = edits(observed.object, edited, cluster.now, defaults)
    return {one.tier: one for one in found}


def applied(cluster: ModelCluster, tiers: Any, **spec: Any) -> int:
    """How many of the pods are gone after the same edit was made."""
    before = uids(cluster)
    cluster.spec = copy.deepcopy({"tiers": tiers, **spec})
    cluster.generation += 1
    cluster.settle()
    return len(before - uids(cluster))


EDITS = [
    (
        {"model": MODEL | {"uri": "image:///m/g"}, "context": {"maxModelLen": 65536}},
        "flagship: restarts, 1 replica is replaced (model.uri, context.maxModelLen)",
    ),
    ({"model": MODEL, "replicas": 1}, "flagship: nothing restarts"),
    (
        {"model": MODEL, "drain": {"timeoutSeconds": 10}},
        "flagship: nothing restarts (drain.timeoutSeconds: applied live)",
    ),
    (
        {"model": MODEL, "placement": {"provisioning": "NodeAutoscaler"}},
        "flagship: nothing restarts (placement.provisioning: applied live)",
    ),
    (
        {"model": MODEL, "parallelism": {"tensor": "2"}},
        "flagship: nothing restarts (parallelism.tensor: comes to the same engine)",
    ),
    (
        {"model": MODEL, "placement": {"nodeSelector": {"a.b/c": "d"}}},
        "flagship: keeps what runs: 1 replica would be replaced (placement.nodeSelector), and"
        " what is new does not fit",
    ),
]


@pytest.mark.parametrize(("flagship", "sentence"), EDITS)
def test_an_edit_is_told_before_it_is_made_and_does_what_was_told(
    flagship: Any, sentence: str
) -> None:
    cluster = settled(8, flash=FLASH | OFF)
    tiers = BOTH | {"flagship": flagship}
    found = predicted(cluster, tiers)
    assert found["flagship"].sentence() == sentence
    assert found["flash"].sentence() == "flash: nothing restarts"
    replaced = found["flagship"].replicas if found["flagship"].effect is Effect.RESTARTS else 0
    assert applied(cluster, tiers) == replaced


def test_other_pull_secrets_restart_every_tier() -> None:
    cluster = settled(8, flash=FLASH | OFF)
    found = predicted(cluster, BOTH, imagePullSecrets=["registry"])
    assert [one.sentence() for one in found.values()] == [
        "flagship: restarts, 1 replica is replaced (spec.imagePullSecrets)",
        "flash: restarts, 1 replica is replaced (spec.imagePullSecrets)",
    ]
    assert applied(cluster, BOTH, imagePullSecrets=["registry"]) == 2


def test_other_hosts_of_media_restart_the_tiers_that_see() -> None:
    allowed = {"media": {"allowedDomains": ["images.example.org"]}}
    cluster = settled(8, flash=FLASH | OFF)
    found = predicted(cluster, BOTH, gateway=allowed)
    assert [one.sentence() for one in found.values()] == [
        "flagship: restarts, 1 replica is replaced (spec.gateway.media.allowedDomains)",
        "flash: restarts, 1 replica is replaced (spec.gateway.media.allowedDomains)",
    ]
    assert applied(cluster, BOTH, gateway=allowed) == 2


def test_a_new_tier_and_one_that_goes_are_named() -> None:
    cluster = settled(8, flash=None)
    found = predicted(cluster, {"flash": FLASH | OFF | {"replicas": 3}})
    assert [one.sentence() for one in found.values()] == [
        "flagship: is removed, 1 replica ends",
        "flash: is added, 3 replicas begin",
    ]


def test_an_image_that_the_operator_chose_is_no_edit() -> None:
    cluster = settled(8, flash=None)
    cluster.defaults = Defaults(engine_image="mirror.example/vllm:v0.32.0")
    applied(cluster, {"flagship": FLAGSHIP | {"context": {"maxModelLen": 65536}}})
    same = FLAGSHIP | {"context": {"maxModelLen": 65536}, "parallelism": {"tensor": "2"}}
    assert predicted(cluster, {"flagship": same})["flagship"].effect is Effect.NOTHING


def test_a_tier_that_sleeps_has_nothing_to_restart() -> None:
    asleep = FLASH | OFF | {"replicas": 0}
    cluster = settled(8, flagship=None, flash=asleep)
    found = predicted(cluster, {"flash": asleep | {"context": {"maxModelLen": 4096}}})
    assert found["flash"].sentence() == (
        "flash: nothing restarts (context.maxModelLen: counts from the next replica on)"
    )


def test_an_edit_without_room_says_what_is_lacking() -> None:
    cluster = settled(2, flash=None)
    found = predicted(cluster, BOTH | {"flagship": FLAGSHIP | {"parallelism": {"tensor": "2"}}})
    assert found["flash"].effect is Effect.ADDED
    bigger = FLAGSHIP | {"context": {"maxModelLen": 4096}}
    waiting = predicted(cluster, {"flagship": bigger, "flash": FLASH | OFF})["flagship"]
    assert waiting.effect is Effect.WAITS
    assert "waits, because the object begins as a whole" in waiting.sentence()


def test_the_data_form_has_the_sentence_and_the_paths() -> None:
    edit = TierEdit("flash", Effect.RESTARTS, 2, ("model.uri",), ("replicas",))
    assert edit.document() == {
        "tier": "flash",
        "effect": "Restarts",
        "replicas": 2,
        "restartingFields": ["model.uri"],
        "liveFields": ["replicas"],
        "message": "flash: restarts, 2 replicas are replaced (model.uri)",
    }
