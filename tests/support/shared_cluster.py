"""Several objects on the same nodes in memory, each with its own pods, and the claims of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from cluster_model import ModelCluster
from glm_operator.plan.actions import CreatePod, Plan
from glm_operator.plan.claims import served
from glm_operator.plan.observed import Hold, Node, PriorityClasses
from glm_operator.plan.order import Claim


@dataclass
class SharedCluster:
    """Objects by name. Passes are made one by one, in the order that a test wants."""

    nodes: dict[str, Node]
    objects: dict[str, ModelCluster] = field(default_factory=dict)
    claims: dict[str, tuple[Claim, ...]] = field(default_factory=dict)
    tenants: dict[str, tuple[Hold, ...]] = field(default_factory=dict)
    """Node -> what pods that are no business of ours hold."""
    priorities: PriorityClasses = field(default_factory=PriorityClasses)
    now: float = 1_700_000_000.0

    def put(self, name: str, age: float = 0.0, **tiers: Any) -> ModelCluster:
        """A new object, created so many seconds ago."""
        spec = {"tiers": tiers}
        born = self.now - age
        self.objects[name] = ModelCluster(spec, {}, self.now, name=name, created_at=born)
        return self.objects[name]

    def remove(self, name: str) -> None:
        """The object and everything it owns is gone."""
        del self.objects[name]
        self.claims.pop(name, None)

    def look(self, name: str) -> ModelCluster:
        """An object that sees what everybody holds and claims now."""
        mine = self.objects[name]
        mine.nodes = {node: self._seen_by(name, one) for node, one in self.nodes.items()}
        mine.claims = tuple(claim for claims in self.claims.values() for claim in claims)
        mine.priorities = self.priorities
        return mine

    def _seen_by(self, name: str, node: Node) -> Node:
        others = (
            Hold(pod.resource, pod.gpus, "ml", pod.name, pod.uid, pod.terminating)
            for other, one in self.objects.items()
            for pod in one.pods.values()
            if other != name and pod.node == node.name and pod.phase not in ("Failed", "Succeeded")
        )
        return replace(node, holds=(*self.tenants.get(node.name, ()), *others))

    def pass_(self, name: str) -> Plan:
        """One pass of an object: planned, carried out, and its claims made known."""
        result = self.look(name).reconcile()
        claims = result.claims
        for action in result.actions:
            if isinstance(action, CreatePod):
                labels = action.manifest["metadata"]["labels"]
                claims = served(claims, labels["glm-operator.io/tier"])
        self.claims[name] = claims
        return result

    def advance(self, seconds: float) -> None:
        """Let time pass for all."""
        self.now += seconds
        for one in self.objects.values():
            one.advance(seconds)

    def settle(self, names: Iterable[str] = (), rounds: int = 60) -> None:
        """Passes of all objects until no plan has an action."""
        order = list(names) or sorted(self.objects)
        for _ in range(rounds):
            busy = [name for name in order if self.pass_(name).actions]
            self.advance(20.0)
            if not busy and not any(self.look(name).plan().actions for name in order):
                return
        raise AssertionError(f"no rest: {busy}")

    def gpus(self, name: str) -> int:
        """GPUs that an object holds."""
        living = (one for one in self.objects[name].pods.values() if one.phase != "Failed")
        return sum(one.gpus for one in living)

    def held(self, node: str) -> int:
        """GPUs of a node that all objects and tenants hold."""
        tenants = sum(hold.count for hold in self.tenants.get(node, ()))
        return tenants + sum(one.held_by_us(node) for one in self.objects.values())

    def message(self, name: str, kind: str = "Planned") -> str:
        """The message of one condition of an object."""
        found = self.objects[name].status["conditions"]
        return next(str(one["message"]) for one in found if one["type"] == kind)
