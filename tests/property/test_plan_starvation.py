"""A large replica gets its GPUs after finitely many completions, though small ones keep coming."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from glm_operator.plan.observed import Hold
from plan_builders import FLAGSHIP, FLASH, GPU, OFF, nodes
from shared_cluster import SharedCluster

FOUR = FLAGSHIP | {"parallelism": {"tensor": "4"}}
LED_BY_LOAD = FLASH | {"scaling": {"minReplicas": 1, "maxReplicas": 64}}


def crowded(sizes: list[int]) -> SharedCluster:
    """Nodes full of single-GPU pods of somebody else."""
    shared = SharedCluster(nodes(*sizes))
    for name, node in shared.nodes.items():
        jobs = range(node.allocatable[GPU])
        shared.tenants[name] = tuple(
            Hold(GPU, 1, "o", f"{name}-{job}", f"{name}-{job}") for job in jobs
        )
    return shared


def complete_one(shared: SharedCluster, order: random.Random) -> bool:
    """One pod of somebody else ends, anywhere; whether there was one."""
    busy = sorted(name for name, holds in shared.tenants.items() if holds)
    if busy:
        name = order.choice(busy)
        shared.tenants[name] = shared.tenants[name][1:]
    return bool(busy)


@given(
    st.lists(st.integers(4, 6), min_size=1, max_size=2),
    st.integers(0, 1 << 30),
    st.sampled_from(["younger flash", "older load"]),
)
@settings(max_examples=max(8, settings.default.max_examples // 10))
def test_a_flagship_is_served_though_small_replicas_keep_coming(
    sizes: list[int], seed: int, stream: str
) -> None:
    shared, order = crowded(sizes), random.Random(seed)
    if stream == "older load":
        shared.put("older", 3600.0, flash=LED_BY_LOAD)
        complete_one(shared, order)
        shared.settle()
    shared.put("flagship", 60.0, flagship=FOUR)
    shared.pass_("flagship")
    completions = 0
    while shared.gpus("flagship") == 0:
        assert complete_one(shared, order), f"{completions} completions and still waiting"
        completions += 1
        arrive(shared, stream, completions)
        # Who has what it wants is not passed; what is new, waits or follows the load is.
        rested = (one for one, claims in shared.claims.items() if not claims and one != "older")
        names = sorted(shared.objects.keys() - set(rested))
        for name in order.sample(names, len(names)):
            shared.pass_(name)
    assert completions <= sum(sizes)


def arrive(shared: SharedCluster, stream: str, number: int) -> None:
    """More small replicas are wanted than ever become free."""
    if stream == "older load":
        older: Any = shared.objects["older"]
        older.held = {"flash": 8 * (2 + number)}
        shared.advance(1.0)
        return
    waiting = [name for name, claims in shared.claims.items() if claims and name != "flagship"]
    if len(waiting) < 2:
        shared.put(f"flash-{number}", 0.0, flash=FLASH | OFF)
