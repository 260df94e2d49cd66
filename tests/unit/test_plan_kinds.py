"""Nodes that are alike are judged once: all that a judgement looks at must tell them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster_model import gpu_node
from glm_operator.plan.hosting import Hosting
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node, Taint
from glm_operator.plan.placement import Constraints
from plan_builders import GPU, engine

PLAIN = gpu_node("a")


def labelled(**labels: str) -> Node:
    told = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return replace(PLAIN, name="b", labels={**PLAIN.labels, **told})


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (gpu_node("b"), True),
        (labelled(topology="b"), True),
        (replace(gpu_node("b"), ready=False), True),
        (gpu_node("b", 4), False),
        (gpu_node("b", mib=1000), False),
        (gpu_node("b", product="L4"), False),
        (labelled(nvidia_com__gpu_compute_major="7"), False),
        (labelled(pool="gpu"), False),
        (replace(gpu_node("b"), taints=(Taint("x", "", "NoSchedule"),)), False),
        (gpu_node("named"), False),
    ],
)
def test_what_is_judged_tells_kinds_apart(other: Node, same: bool) -> None:
    wanted = Constraints(GPU, node_names=("a", "b"), node_selector={"pool": "gpu"})
    if same:
        wanted = replace(wanted, node_selector={})
    assert len(Kinds([PLAIN, other]).alike(wanted)) == (1 if same else 2)


def test_hosts_are_the_nodes_that_are_not_refused() -> None:
    names = ("node-1", "node-3")
    nodes = [gpu_node(f"node-{index}", gpus) for index, gpus in enumerate((8, 8, 4, 1))]
    for one in (engine(), engine(node_names=names), engine(node_selector={"pool": "gpu"})):
        hosting = Hosting(one)
        assert hosting.hosts(nodes) == [node for node in nodes if not hosting.refusal(node)]


def test_kinds_are_told_apart_by_the_resource_that_is_asked_for() -> None:
    kinds = Kinds([replace(PLAIN, allocatable={GPU: 8, "shared": 2}), gpu_node("b")])
    assert len(kinds.alike(Constraints(GPU))) == 1
    assert len(kinds.alike(Constraints("shared"))) == 2


def test_kinds_are_not_grouped_twice() -> None:
    kinds = Kinds([PLAIN])
    assert Kinds.of(kinds) is kinds
    assert kinds.alike(Constraints(GPU)) is kinds.alike(Constraints(GPU))
    assert list(kinds) == [PLAIN]
