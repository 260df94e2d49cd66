"""Any history of a cluster that grows: few replicas wait, none is too many, all come to rest."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cluster_model import GPU, ModelCluster, gpu_node
from glm_operator.plan.observed import Hold, Node
from glm_operator.plan.replicas import is_waiting
from plan_builders import FLAGSHIP, FLASH, OFF, cluster

H100 = ("NVIDIA-H100-80GB-HBM3", 81_559)
L4 = ("NVIDIA-L4", 23_034)
BLIND = ("", 0)
"""A node whose labels come later, or never."""
TIMEOUT = 60


def placement(most: int) -> dict[str, Any]:
    asked = {"nodeShape": "8xH100-80GB", "maxUnschedulable": most, "timeoutSeconds": TIMEOUT}
    return {"placement": {"provisioning": "NodeAutoscaler", "nodeAutoscaler": asked}}


class Growing(RuleBasedStateMachine):
    """One object of two tiers, and nodes that come, late, too small, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ModelCluster({}, {})
        self.most = 1

    @initialize(most=st.integers(1, 3), start=st.lists(st.sampled_from([1, 2, 8]), max_size=2))
    def begin(self, most: int, start: list[int]) -> None:
        self.most = most
        flagship = FLAGSHIP | placement(most) | {"replicas": 2}
        flash = FLASH | OFF | placement(most) | {"replicas": 2}
        self.cluster = cluster(*start, flagship=flagship, flash=flash)

    @rule()
    def reconcile(self) -> None:
        before = {tier: len(self.cluster.of(tier)) for tier in ("flagship", "flash")}
        self.cluster.reconcile()
        for tier, count in before.items():
            wanted = self.cluster.spec["tiers"][tier]["replicas"]
            assert len(self.cluster.of(tier)) <= max(wanted, count)

    @rule(actions=st.integers(0, 5))
    def die_during_a_reconcile(self, actions: int) -> None:
        self.cluster.reconcile(stop_after=actions)

    @rule(seconds=st.sampled_from([1.0, 5.0, 65.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule(kind=st.sampled_from([H100, H100, L4, BLIND]), gpus=st.sampled_from([1, 2, 8]))
    def a_node_comes(self, kind: tuple[str, int], gpus: int) -> None:
        name, (product, mib) = f"new-{len(self.cluster.nodes)}", kind
        blind = Node(name, allocatable={GPU: gpus})
        self.cluster.nodes[name] = gpu_node(name, gpus, product, mib) if product else blind

    @rule(kind=st.sampled_from([H100, L4]))
    def labels_come(self, kind: tuple[str, int]) -> None:
        for name, node in self.cluster.nodes.items():
            if not node.labels:
                self.cluster.nodes[name] = gpu_node(name, node.allocatable[GPU], *kind)

    @rule(count=st.integers(0, 2))
    def another_tenant_changes(self, count: int) -> None:
        for name, node in self.cluster.nodes.items():
            free = node.allocatable[GPU] - self.cluster.held_by_us(name)
            taken = min(count, free)
            holds = (Hold(GPU, taken, "other", "tenant", f"tenant-{name}"),) if taken else ()
            self.cluster.set_node(name, holds=holds)

    @rule(tier=st.sampled_from(["flagship", "flash"]), replicas=st.integers(1, 4))
    def a_tier_is_resized(self, tier: str, replicas: int) -> None:
        self.cluster.edit(**{f"tiers__{tier}__replicas": replicas})

    @rule(provisioning=st.sampled_from(["NodeAutoscaler", "NodeAutoscaler", "None"]))
    def provisioning_changes(self, provisioning: str) -> None:
        self.cluster.edit(tiers__flagship__placement__provisioning=provisioning)

    @rule(mode=st.sampled_from(["Live", "Live", "Paused", "Plan"]))
    def the_mode_changes(self, mode: str) -> None:
        self.cluster.edit(mode=mode)

    @invariant()
    def few_replicas_wait(self) -> None:
        for tier in ("flagship", "flash"):
            waiting = [pod for pod in self.cluster.pods.values() if is_waiting(pod)]
            assert sum(pod.tier == tier for pod in waiting) <= self.most

    def teardown(self) -> None:
        """With a node for each pod that waits, everything wanted serves in the end."""
        if not self.cluster.spec:
            return
        self.labels_come(H100)
        self.another_tenant_changes(0)
        self.cluster.edit(mode="Live", tiers__flagship__placement__provisioning="NodeAutoscaler")
        rounds = 0
        while self.cluster.reconcile().actions or not self.is_served():
            rounds += 1
            assert rounds < 60, "it comes to no rest"
            waiting = [pod for pod in self.cluster.pods.values() if is_waiting(pod)]
            if any(pod.unschedulable for pod in waiting):
                self.a_node_comes(H100, 2)
            self.cluster.advance(20)

    def is_served(self) -> bool:
        """Whether each tier has what it wants, and nothing else."""
        return all(
            len(self.cluster.routable(tier)) == spec["replicas"] == len(self.cluster.of(tier))
            for tier, spec in self.cluster.spec["tiers"].items()
        )


TestAnyGrowth = Growing.TestCase
TestAnyGrowth.settings = settings(
    settings(),
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
