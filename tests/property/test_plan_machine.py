"""Any history of edits, faults, load and crashes: the plan never does wrong, and comes to rest."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster_model import GPU, ModelCluster, gpu_node
from glm_operator.api import names, reasons
from glm_operator.api.status import GLMDeploymentStatus
from glm_operator.plan.actions import DeletePod
from glm_operator.plan.observed import Hold, Replica
from glm_operator.plan.quota import Limits, Quota
from glm_operator.plan.replicas import can_serve, fleet

NODES = ("gpu-a", "gpu-b", "gpu-c")
SHAPES = st.sampled_from([(8, 81559), (4, 81559), (2, 143771), (4, 23034), (1, 46068)])
COUNTS = st.integers(0, 3)


TEXT = {
    "model": {"preset": "GLM-4.6", "uri": "image:///m/t", "quantization": "INT4"},
    "drain": {"timeoutSeconds": 30},
}
"""Four H100s each."""


def spec(**flash: Any) -> dict[str, Any]:
    """A flagship on two H100s, and flash; the tier text comes and goes."""
    return {
        "tiers": {
            "flagship": {
                "model": {"preset": "GLM-4.6V", "uri": "image:///m/f", "quantization": "FP8"},
                "drain": {"timeoutSeconds": 30},
            },
            "flash": {
                "model": {
                    "preset": "GLM-4.6V-Flash",
                    "uri": "image:///m/s",
                    "quantization": "BF16",
                },
                "drain": {"timeoutSeconds": 30},
                **flash,
            },
        }
    }


class Cluster(RuleBasedStateMachine):
    """One object, three nodes, and everything that happens to them."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = ModelCluster(spec(), {})

    @initialize(shapes=st.tuples(SHAPES, SHAPES, SHAPES), least=st.integers(0, 2))
    def begin(self, shapes: tuple[tuple[int, int], ...], least: int) -> None:
        nodes = {
            name: gpu_node(name, gpus, f"GPU-{mib}", mib)
            for name, (gpus, mib) in zip(NODES, shapes, strict=True)
        }
        scaling = {"minReplicas": least, "maxReplicas": 4}
        self.cluster = ModelCluster(spec(scaling=scaling), nodes)

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.advance(seconds)

    @rule()
    def reconcile(self) -> None:
        before = dict(self.cluster.pods)
        result = self.cluster.plan()
        for action in result.actions:
            if isinstance(action, DeletePod):
                pod = before[action.name]
                answers = pod.routable and can_serve(pod, self.cluster.nodes)
                assert not answers, "deleted while requests may come"
        self.cluster.reconcile()
        for pod in self.cluster.pods.values():
            assert pod.name not in before or pod.routable <= can_serve(pod, self.cluster.nodes)
        assert len(self.cluster.of("flagship")) <= max(self.most_flagships, self.flagships(before))

    @property
    def most_flagships(self) -> int:
        """As many as are wanted and one to surge, and one for each that is lost or stuck."""
        wanted = int(self.cluster.spec["tiers"]["flagship"].get("replicas", 1))
        found = fleet(self.cluster.of("flagship"), self.cluster.nodes, self.cluster.now)
        return wanted + 1 + len(found.lost) + len(found.stuck)

    @staticmethod
    def flagships(pods: dict[str, Replica]) -> int:
        """Living flagship pods."""
        living = [one for one in pods.values() if not one.terminating and one.phase != "Failed"]
        return sum(one.tier == "flagship" for one in living)

    @rule(actions=st.integers(0, 6))
    def die_during_a_reconcile(self, actions: int) -> None:
        self.cluster.reconcile(stop_after=actions)

    @rule()
    def the_operator_restarts(self) -> None:
        self.cluster.scaling = {}

    @rule(node=st.sampled_from(NODES), ready=st.booleans(), cordoned=st.booleans())
    def a_node_changes(self, node: str, ready: bool, cordoned: bool) -> None:
        self.cluster.set_node(node, ready=ready, unschedulable=cordoned)

    @rule(nodes=st.sets(st.sampled_from(NODES)))
    def the_scheduler_refuses(self, nodes: set[str]) -> None:
        self.cluster.refusing = nodes

    @rule(node=st.sampled_from(NODES), count=st.integers(0, 4))
    def another_tenant_changes(self, node: str, count: int) -> None:
        free = self.cluster.nodes[node].allocatable[GPU] - self.cluster.held_by_us(node)
        taken = min(count, max(0, free))
        holds = (Hold(GPU, taken, "other", "tenant", f"tenant-{node}"),) if taken else ()
        self.cluster.set_node(node, holds=holds)

    @rule(gpus=st.none() | st.integers(0, 12))
    def the_quota_changes(self, gpus: int | None) -> None:
        hard = {"requests.nvidia.com/gpu": Fraction(gpus)} if gpus is not None else {}
        self.cluster.limits = Limits((Quota("gpus", hard),))

    @rule(forbidding=st.booleans())
    def a_policy_refuses_successors(self, forbidding: bool) -> None:
        self.cluster.forbidding = forbidding

    @precondition(lambda self: self.cluster.pods)
    @rule(data=st.data())
    def a_pod_fails(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cluster.pods)))
        self.cluster.change(name, phase="Failed", failed_at=self.cluster.now, failure="Evicted")

    @precondition(lambda self: self.cluster.pods)
    @rule(data=st.data())
    def a_container_restarts(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cluster.pods)))
        pod = self.cluster.pods[name]
        if pod.container_id:
            self.cluster.change(name, container_id=f"{pod.container_id}+", restarts=1)

    @rule(tier=st.sampled_from(names.TIERS), busy=st.integers(0, 20), held=COUNTS)
    def load_changes(self, tier: str, busy: int, held: int) -> None:
        routable = self.cluster.routable(tier)
        self.cluster.in_flight = dict.fromkeys(routable, busy)
        self.cluster.held[tier] = held
        self.cluster.arrivals[tier] = self.cluster.arrivals.get(tier, 0) + busy + held

    @rule(ages=st.lists(st.sampled_from([0.2, 30.0]), max_size=2))
    def gateways_change(self, ages: list[float]) -> None:
        self.cluster.gateway_ages = ages

    @rule(replicas=st.integers(1, 3))
    def the_flagship_is_resized(self, replicas: int) -> None:
        self.cluster.edit(tiers__flagship__replicas=replicas)

    @rule(tier=st.sampled_from(["flagship", "flash"]), images=st.integers(1, 3))
    def a_tier_is_edited(self, tier: str, images: int) -> None:
        if tier in self.cluster.spec["tiers"]:
            self.cluster.edit(**{f"tiers__{tier}__multimodal__maxImagesPerRequest": images})

    @rule(wanted=st.booleans())
    def text_comes_or_goes(self, wanted: bool) -> None:
        self.cluster.edit(tiers__text=TEXT if wanted else None)

    @rule(mode=st.sampled_from(["Live", "Live", "Paused", "Plan"]))
    def the_mode_changes(self, mode: str) -> None:
        self.cluster.edit(mode=mode)

    @invariant()
    def the_status_follows_its_schema(self) -> None:
        if self.cluster.status:
            parsed = GLMDeploymentStatus.model_validate(self.cluster.status)
            written = parsed.model_dump(mode="json", by_alias=True, exclude_none=True)
            assert written == self.cluster.status

    @invariant()
    def every_reason_is_in_the_catalogue(self) -> None:
        for one in self.cluster.status.get("conditions", ()):
            assert one["reason"] in reasons.CATALOGUE

    @invariant()
    def plan_mode_makes_nothing(self) -> None:
        if self.cluster.spec.get("mode") == "Plan":
            kinds = {type(action).__name__ for action in self.cluster.plan().actions}
            assert kinds <= {"PatchPod"}

    def teardown(self) -> None:
        """Left alone on sound nodes, everything comes to rest, and a plan of it is empty."""
        for name in self.cluster.nodes:
            self.cluster.set_node(name, ready=True, unschedulable=False)
        self.cluster.refusing, self.cluster.forbidding = set(), False
        self.cluster.gateway_ages = [0.2]
        self.cluster.in_flight, self.cluster.held = {}, {}
        if self.cluster.nodes:
            self.cluster.settle(seconds=20.0)
            assert self.cluster.plan().actions == ()
            self.everything_serves_or_is_explained()

    def everything_serves_or_is_explained(self) -> None:
        """At rest a tier has what it wants, or a condition says what it lacks."""
        found = {one["type"]: one for one in self.cluster.status["conditions"]}
        lacking = [
            name
            for name, tier in self.cluster.status["tiers"].items()
            if tier["readyReplicas"] < tier["desiredReplicas"]
        ]
        assert not lacking or found["Planned"]["status"] == "False" or self.is_still()

    def is_still(self) -> bool:
        """Whether the user told the operator to make nothing."""
        return self.cluster.spec.get("mode", "Live") != "Live"


TestAnyHistory = Cluster.TestCase
TestAnyHistory.settings = settings(
    settings(),
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
