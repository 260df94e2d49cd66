"""What holds of any history of several objects on the same nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster_model import GPU, gpu_node
from glm_operator.plan.actions import CreatePod, Plan
from glm_operator.plan.claims import queued
from glm_operator.plan.observed import Hold, Node, PriorityClasses
from glm_operator.plan.order import Claim
from glm_operator.plan.planner import plan
from glm_operator.plan.room import Room
from plan_builders import FLAGSHIP, FLASH
from shared_cluster import SharedCluster

NAMES = ("a", "b", "c", "d")
CLASSES = PriorityClasses({"high": 100, "low": -100}, complete=True)
AGES = st.integers(0, 5)
ZONES = ("", "x", "y")


@st.composite
def tiers(draw: st.DrawFn) -> dict[str, Any]:
    """One or both tiers; flash fixed, or led by the load."""
    placement = {"priorityClassName": draw(st.sampled_from(["", "", "high", "low"]))}
    flagship = FLAGSHIP | {
        "parallelism": {"tensor": draw(st.sampled_from(["2", "4"]))},
        "placement": placement,
        "replicas": draw(st.integers(1, 2)),
    }
    mode = draw(st.sampled_from(["Off", "Internal", "External"]))
    least = draw(st.integers(0 if mode == "Internal" else 1, 2))
    flash = FLASH | {
        "placement": placement,
        "replicas": draw(st.integers(1, 3)),
        "scaling": {"mode": mode, "minReplicas": least, "maxReplicas": 4},
    }
    both = {"flagship": flagship, "flash": flash}
    left_out = draw(st.sampled_from(["", "flagship", "flash"]))
    return {name: tier for name, tier in both.items() if name != left_out}


def node(name: str, gpus: int, zone: str = "") -> Node:
    made = gpu_node(name, gpus)
    return replace(
        made, labels=made.labels | ({"topology.kubernetes.io/zone": zone} if zone else {})
    )


NODES = st.lists(st.tuples(st.integers(1, 8), st.sampled_from(ZONES)), min_size=1, max_size=3).map(
    lambda made: {f"n-{index}": node(f"n-{index}", *one) for index, one in enumerate(made)}
)


def room_for(claims: list[Claim], nodes: tuple[Node, ...]) -> list[int]:
    """How many replicas of each claim would find room, the first served first."""
    room = Room(nodes, ())
    asked = sorted(queued(claims, ("", "")), key=lambda one: one.rank.key)
    return [len(room.place(one.demand, one.count)) for one in asked]


def created(result: Plan) -> list[Any]:
    """The places in the order that the created replicas had."""
    made = Counter(
        action.manifest["metadata"]["labels"]["glm-operator.io/tier"]
        for action in result.actions
        if isinstance(action, CreatePod)
    )
    return [
        key
        for tier, count in made.items()
        for key in sorted(
            claim.rank.key
            for claim in result.claims
            if claim.rank.tier == tier
            for _ in range(claim.count)
        )[:count]
    ]


@st.composite
def half_full(draw: st.DrawFn) -> SharedCluster:
    """Nodes of which others hold a part, and two objects that are new."""
    shared = SharedCluster(draw(NODES), priorities=CLASSES)
    for name, one in shared.nodes.items():
        held = draw(st.integers(0, one.allocatable[GPU]))
        shared.tenants[name] = (Hold(GPU, held, "other", "job", f"job-{name}"),) if held else ()
    for name in NAMES[:2]:
        shared.put(name, float(draw(AGES)), **draw(tiers()))
    return shared


@given(half_full(), st.sampled_from([("a", "b"), ("b", "a")]))
def test_nothing_is_created_in_the_room_of_a_promise_that_comes_first(
    shared: SharedCluster, order: tuple[str, str]
) -> None:
    waiting, passed = order
    shared.claims[waiting] = shared.look(waiting).plan().claims
    nothing_is_taken_from_who_comes_first(shared, passed)


@given(half_full())
def test_a_plan_that_was_carried_out_is_not_carried_out_again(shared: SharedCluster) -> None:
    shared.settle()
    for name in shared.objects:
        assert shared.pass_(name).actions == ()


def nothing_is_taken_from_who_comes_first(shared: SharedCluster, name: str) -> None:
    """Pass an object: claims that come before all that it creates find as much room as before."""
    before = shared.look(name).observed().nodes
    ranks = created(shared.pass_(name))
    if ranks:
        others = [claim for claim in shared.look(name).claims if claim.rank.name != name]
        first = [claim for claim in others if claim.rank.key < min(ranks)]
        after = shared.look(name).observed().nodes
        assert room_for(first, after) == room_for(first, before)


class Sharing(RuleBasedStateMachine):
    """Up to four objects, up to three nodes, and everybody else's pods."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = SharedCluster({})

    @initialize(nodes=NODES)
    def begin(self, nodes: dict[str, Node]) -> None:
        self.shared = SharedCluster(nodes, priorities=CLASSES)

    @rule(name=st.sampled_from(NAMES), age=AGES, wanted=tiers())
    def an_object_is_put(self, name: str, age: int, wanted: dict[str, Any]) -> None:
        if name not in self.shared.objects:
            self.shared.put(name, float(age), **wanted)

    @precondition(lambda self: self.shared.objects)
    @rule(data=st.data())
    def an_object_is_removed(self, data: st.DataObject) -> None:
        self.shared.remove(data.draw(st.sampled_from(sorted(self.shared.objects))))

    @precondition(lambda self: self.shared.objects)
    @rule(data=st.data(), mode=st.sampled_from(["Live", "Live", "Plan", "Paused"]))
    def a_mode_changes(self, data: st.DataObject, mode: str) -> None:
        self.shared.objects[data.draw(st.sampled_from(sorted(self.shared.objects)))].edit(mode=mode)

    @precondition(lambda self: self.shared.objects)
    @rule(data=st.data(), held=st.integers(0, 30))
    def load_changes(self, data: st.DataObject, held: int) -> None:
        self.shared.objects[data.draw(st.sampled_from(sorted(self.shared.objects)))].held = {
            "flash": held
        }

    @precondition(lambda self: self.shared.objects)
    @rule(data=st.data(), images=st.integers(1, 3))
    def a_tier_is_edited(self, data: st.DataObject, images: int) -> None:
        one = self.shared.objects[data.draw(st.sampled_from(sorted(self.shared.objects)))]
        for tier in one.spec["tiers"]:
            one.edit(**{f"tiers__{tier}__multimodal__maxImagesPerRequest": images})

    @rule(seconds=st.sampled_from([1.0, 30.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.shared.advance(seconds)

    @precondition(lambda self: self.shared.nodes)
    @rule(data=st.data(), count=st.integers(0, 8))
    def others_come_and_go(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.shared.nodes)))
        self.shared.tenants.pop(name, None)
        taken = min(count, self.shared.nodes[name].allocatable[GPU] - self.shared.held(name))
        if taken > 0:
            self.shared.tenants[name] = (Hold(GPU, taken, "other", "job", f"job-{name}"),)

    @precondition(lambda self: self.shared.objects)
    @rule(data=st.data())
    def a_pass(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.shared.objects)))
        nothing_is_taken_from_who_comes_first(self.shared, name)

    @invariant()
    def no_node_gives_more_than_it_has(self) -> None:
        for name, one in self.shared.nodes.items():
            assert self.shared.held(name) <= one.allocatable[GPU]

    @invariant()
    def plans_depend_on_what_is_seen_and_not_on_its_order(self) -> None:
        for name in self.shared.objects:
            seen = self.shared.look(name)
            observed = seen.observed()
            turned = replace(observed, nodes=observed.nodes[::-1], claims=observed.claims[::-1])
            first = plan(observed, seen.now, seen.defaults)
            assert plan(turned, seen.now, seen.defaults) == first

    @invariant()
    def what_is_only_planned_claims_nothing(self) -> None:
        for name, one in self.shared.objects.items():
            if one.spec.get("mode") == "Plan":
                assert self.shared.look(name).plan().claims == ()

    def teardown(self) -> None:
        """Left alone all come to rest, and one more node moves nothing that is placed."""
        for one in self.shared.objects.values():
            one.held = {}
        self.shared.settle()
        before = self.placed()
        self.shared.nodes["z"] = node("z", 8)
        self.shared.settle()
        assert before.items() <= self.placed().items()

    def placed(self) -> dict[str, str]:
        return {
            pod.uid: pod.node for one in self.shared.objects.values() for pod in one.pods.values()
        }


TestSharing = Sharing.TestCase
TestSharing.settings = settings(
    settings(),
    stateful_step_count=20,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
