"""What holds of every plan: room is never overdrawn, sharding is legal, order does not matter."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_model import GPU, ModelCluster, gpu_node, pinned_node
from glm_operator import catalog
from glm_operator.plan.actions import CreatePod
from glm_operator.plan.observed import Hold, Node
from glm_operator.plan.planner import plan

FLAGSHIP = {"model": {"preset": "GLM-4.6V", "uri": "image:///m/f", "quantization": "FP8"}}
FLASH = {"model": {"preset": "GLM-4.6V-Flash", "uri": "image:///m/s", "quantization": "BF16"}}
TEXT = {"model": {"preset": "GLM-4.6", "uri": "image:///m/t", "quantization": "FP8"}}

MEMORY = st.sampled_from([15_360, 23_034, 46_068, 81_559, 143_771, 183_359])
QUANTIZATION = st.sampled_from(["BF16", "FP8", "INT4"])
TENSOR = st.sampled_from(["Auto", "Auto", "1", "2", "4", "8"])


@st.composite
def nodes(draw: st.DrawFn, least: int = 0) -> list[Node]:
    found = []
    for index in range(draw(st.integers(least, 6))):
        gpus, mib = draw(st.integers(1, 8)), draw(MEMORY)
        node = gpu_node(f"node-{index}", gpus, f"GPU-{mib}", mib)
        held = draw(st.integers(0, gpus))
        hold = (Hold(GPU, held, "other", "tenant", f"tenant-{index}"),) if held else ()
        ready, cordoned = draw(st.booleans()) or draw(st.booleans()), draw(st.booleans())
        found.append(replace(node, holds=hold, ready=ready, unschedulable=cordoned))
    return found


@st.composite
def tier(draw: st.DrawFn, base: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": base["model"] | {"quantization": draw(QUANTIZATION)},
        "parallelism": {"tensor": draw(TENSOR)},
        "context": {"maxModelLen": draw(st.sampled_from([0, 8192, 65536, 131072]))},
        "placement": {"pinning": draw(st.sampled_from(["Required", "Preferred", "None"]))},
        "replicas": draw(st.integers(1, 3)),
    }


@st.composite
def clusters(draw: st.DrawFn, least_nodes: int = 0) -> ModelCluster:
    flash = draw(tier(FLASH))
    mode = draw(st.sampled_from(["Internal", "Off", "External"]))
    flash["scaling"] = {"mode": mode, "minReplicas": draw(st.integers(1, 3)), "maxReplicas": 6}
    every = {"flagship": draw(tier(FLAGSHIP)), "flash": flash, "text": draw(tier(TEXT))}
    present = draw(st.sets(st.sampled_from(sorted(every)), min_size=1))
    spec = {"tiers": {name: every[name] for name in sorted(present)}}
    return ModelCluster(spec, {node.name: node for node in draw(nodes(least_nodes))})


def creations(cluster: ModelCluster) -> list[CreatePod]:
    return [one for one in cluster.plan().actions if isinstance(one, CreatePod)]


@given(clusters())
def test_no_plan_takes_more_gpus_than_a_node_has_free(cluster: ModelCluster) -> None:
    taken: Counter[str] = Counter()
    for create in creations(cluster):
        taken[create.node] += create.gpus
    for name, count in taken.items():
        node = cluster.nodes[name]
        assert count + sum(hold.count for hold in node.holds) <= node.allocatable[GPU]
        assert node.ready
        assert not node.unschedulable


@given(clusters())
def test_no_plan_shards_what_cannot_be_sharded(cluster: ModelCluster) -> None:
    for create in creations(cluster):
        labels = create.manifest["metadata"]["labels"]
        model = next(
            one for one in catalog.MODELS.values() if one.tier == labels["glm-operator.io/tier"]
        )
        assert create.gpus in catalog.legal_tensor(model)


@given(clusters())
def test_a_replica_is_pinned_to_the_node_that_its_room_was_taken_on(cluster: ModelCluster) -> None:
    for create in creations(cluster):
        tier_name = create.manifest["metadata"]["labels"]["glm-operator.io/tier"]
        pinning = cluster.spec["tiers"][tier_name]["placement"]["pinning"]
        assert pinned_node(create.manifest) == (create.node if pinning == "Required" else "")


@given(clusters())
def test_an_object_that_does_not_fit_takes_no_gpu(cluster: ModelCluster) -> None:
    result = cluster.plan()
    planned = next(one for one in result.status["conditions"] if one["type"] == "Planned")
    if planned["status"] == "False" and planned["reason"] == "DoesNotFit":
        assert result.actions == ()


@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_observed_does_not_matter(
    cluster: ModelCluster, order: random.Random
) -> None:
    cluster.reconcile()
    cluster.advance(30)
    observed = cluster.observed()
    shuffled = replace(
        observed,
        nodes=tuple(order.sample(observed.nodes, len(observed.nodes))),
        replicas=tuple(order.sample(observed.replicas, len(observed.replicas))),
        revisions=tuple(order.sample(observed.revisions, len(observed.revisions))),
        children=dict(order.sample(sorted(observed.children.items()), len(observed.children))),
    )
    first = plan(observed, cluster.now, cluster.defaults)
    assert plan(shuffled, cluster.now, cluster.defaults) == first


@given(clusters(least_nodes=1))
def test_a_node_more_moves_nothing_that_is_placed(cluster: ModelCluster) -> None:
    cluster.reconcile()
    cluster.nodes["node-z"] = gpu_node("node-z", 8, "GPU-183359", 183_359)
    before = {name: pod.node for name, pod in cluster.pods.items()}
    cluster.settle(seconds=20)
    assert before.items() <= {name: pod.node for name, pod in cluster.pods.items()}.items()


@given(clusters(least_nodes=1), st.integers(0, 30))
def test_an_operator_that_dies_between_two_writes_loses_and_doubles_nothing(
    cluster: ModelCluster, writes: int
) -> None:
    undisturbed = ModelCluster(cluster.spec, dict(cluster.nodes))
    undisturbed.settle(seconds=20)
    cluster.reconcile(stop_after=writes)
    cluster.settle(seconds=20)
    assert outcome(cluster) == outcome(undisturbed)


def outcome(cluster: ModelCluster) -> Any:
    pods = sorted((pod.name, pod.node, pod.routable) for pod in cluster.pods.values())
    return pods, sorted(cluster.children), sorted(cluster.revisions), cluster.created


@settings(max_examples=15)
@given(
    replicas=st.integers(1, 3),
    gpus=st.integers(2, 10),
    other=st.integers(0, 6),
    tensor=st.sampled_from(["Auto", "4"]),
)
def test_a_rollout_takes_no_more_from_service_than_it_must(
    replicas: int, gpus: int, other: int, tensor: str
) -> None:
    made = {"a": gpu_node("a", gpus), "b": gpu_node("b", other)}
    cluster = ModelCluster({"tiers": {"flagship": FLAGSHIP | {"replicas": replicas}}}, made)
    cluster.settle(seconds=20)
    served = len(cluster.routable("flagship"))
    spare = max(one.allocatable[GPU] - cluster.held_by_us(one.name) for one in made.values())
    edit = {"parallelism": {"tensor": tensor}, "multimodal": {"maxImagesPerRequest": 3}}
    cluster.edit(tiers__flagship=FLAGSHIP | {"replicas": replicas} | edit)
    surges = tensor == "Auto" and spare >= 2
    for _ in range(25):
        cluster.reconcile()
        assert served - len(cluster.routable("flagship")) <= (0 if surges else 1)
        cluster.advance(7)


EDITS = {
    "images": {"tiers__flagship__multimodal__maxImagesPerRequest": 3},
    "fewer": {"tiers__flagship__replicas": 1},
    "flash": {"tiers__flash__multimodal__maxImagesPerRequest": 3},
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("gpus", [8, 6], ids=["room for a surge", "full"])
def test_every_death_during_an_edit_ends_where_none_would(edit: str, gpus: int) -> None:
    """The sweep: for every n, die after n writes of every pass until the edit is through."""
    spec = {"tiers": {"flagship": FLAGSHIP | {"replicas": 2}, "flash": FLASH | {"replicas": 2}}}
    spec["tiers"]["flash"] = FLASH | {"replicas": 2, "scaling": {"mode": "Off"}}
    expected = edited(spec, gpus, edit, dying_after=None)
    for writes in itertools.count():
        found = edited(spec, gpus, edit, dying_after=writes)
        assert sorted(pod.revision for pod in found.pods.values()) == sorted(
            pod.revision for pod in expected.pods.values()
        )
        assert found.routable("flagship")
        if writes > 8:
            return


def edited(spec: dict[str, Any], gpus: int, edit: str, dying_after: int | None) -> ModelCluster:
    import copy

    cluster = ModelCluster(copy.deepcopy(spec), {"a": gpu_node("a", gpus)})
    cluster.settle(seconds=20)
    cluster.edit(**EDITS[edit])
    if dying_after is not None:
        for _ in range(6):
            cluster.reconcile(stop_after=dying_after)
            cluster.advance(7)
    cluster.settle(seconds=20)
    return cluster
