"""Weights in the plan when something is amiss: blocked, refused, vanished, withdrawn."""

from __future__ import annotations

from typing import Any

from cluster_model import ModelCluster
from glm_operator.api import reasons
from glm_operator.manifests.weights_task import TaskKind
from glm_operator.plan.observed import JobPhase, WeightsJob
from glm_operator.plan.room import ZONE_LABEL
from plan_builders import OFF, cluster, settled

SMALL: dict[str, Any] = {
    "model": {"preset": "GLM-4.6V-Flash", "uri": "hf://zai-org/Flash", "quantization": "BF16"}
}
NEXT = SMALL["model"] | {"revision": "next"}


def jobs(made: ModelCluster, kind: TaskKind = TaskKind.FETCH) -> list[WeightsJob]:
    return [one for one in made.jobs.values() if one.task.kind is kind]


def go_on(made: ModelCluster, rounds: int = 60, seconds: float = 5) -> None:
    for _ in range(rounds):
        made.reconcile()
        made.advance(seconds)


def homes(made: ModelCluster) -> set[str]:
    """The nodes of the replicas."""
    return {one.node for one in made.pods.values()}


def put_into_zones(made: ModelCluster, **zones: str) -> None:
    for name, zone in zones.items():
        node = name.replace("_", "-")
        made.set_node(node, labels={**made.nodes[node].labels, ZONE_LABEL: zone})


# Disks that cannot take a copy.


def test_a_disk_that_is_too_small_counts_more_than_a_zone_without_replicas() -> None:
    made = cluster(1, 1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 2})
    put_into_zones(made, node_1="a", node_2="b", node_3="a")
    made.failing = {"node-2": reasons.DISK_TOO_SMALL}
    go_on(made)
    assert homes(made) == {"node-1", "node-3"}


def test_a_rollout_goes_on_elsewhere_where_one_disk_does_not_hold_both_revisions() -> None:
    for small in ("node-1", "node-2"):
        made = settled(1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 2})
        (old,) = {one.revision for one in made.pods.values()}
        made.facts, made.failing = {"commit": "d" * 40}, {small: reasons.DISK_TOO_SMALL}
        made.edit(tiers__flash__model=NEXT)
        go_on(made, 100)
        assert {one.node for one in made.pods.values() if one.revision == old} == {small}


def test_a_rollout_prepares_one_node_at_a_time_whoever_is_least_busy() -> None:
    made = settled(1, 1, 1, flagship=None, flash=SMALL | OFF | {"replicas": 3})
    made.facts = {"commit": "d" * 40}
    made.edit(tiers__flash__model=NEXT)
    replicas, moving = sorted(made.pods), []
    for turn in range(6):
        made.in_flight = {name: 5 * (index != turn % 3) for index, name in enumerate(replicas)}
        made.reconcile()
        moving.append(sum(one.phase is not JobPhase.DONE for one in jobs(made)))
        made.advance(3)
    assert max(moving) == 1
