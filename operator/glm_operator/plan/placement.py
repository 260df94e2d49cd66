"""Which node a new replica is pinned to. A replica that has a node keeps it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from glm_operator.plan.observed import Node, Replica, Taint

BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")
FINISHED_PHASES = ("Failed", "Succeeded")

Refusal = Callable[[Node], str]
"""Why a node cannot host a replica of the tier, as a sentence; empty when it can."""


@dataclass(frozen=True, slots=True)
class Constraints:
    """Which nodes a tier accepts, apart from what its model needs."""

    resource: str
    node_names: tuple[str, ...] = ()
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What one new replica asks of a node."""

    tier: str
    resource: str
    gpus: int
    refuses: Refusal
    hole: int = 0
    """GPUs in one piece that should stay together for a larger tier; 0: nothing to keep whole."""
    engine: str = ""
    """Names what `refuses` judges by: demands of one engine share its answers."""
    homes: frozenset[str] = frozenset()
    """Nodes that come before all others where they have room."""


def tolerates(toleration: Mapping[str, str], taint: Taint) -> bool:
    """The scheduler's rule for one toleration and one taint."""
    effect = toleration.get("effect", "")
    if effect and effect != taint.effect:
        return False
    key = toleration.get("key", "")
    if toleration.get("operator", "Equal") == "Exists":
        return key in ("", taint.key)
    return key == taint.key and toleration.get("value", "") == taint.value


def node_refusal(node: Node, wanted: Constraints) -> str:
    """Why the tier's placement leaves this node out, or an empty string."""
    if wanted.node_names and node.name not in wanted.node_names:
        return "is not in placement.nodeNames"
    for key, value in (wanted.node_selector or {}).items():
        if node.labels.get(key) != value:
            return f"does not have the label {key}={value} of placement.nodeSelector"
    gpu = {"key": wanted.resource, "operator": "Exists", "effect": "NoSchedule"}
    tolerations = (gpu, *wanted.tolerations)
    for taint in node.taints:
        if taint.effect not in BLOCKING_EFFECTS or _is_health(taint):
            continue
        if not any(tolerates(item, taint) for item in tolerations):
            return f"has the taint {taint.key}:{taint.effect}, which is not tolerated"
    return ""


def _is_health(taint: Taint) -> bool:
    """Taints that repeat what `ready` and `unschedulable` say, set and removed by Kubernetes."""
    return taint.key in (
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/unschedulable",
    )


def health_refusal(node: Node) -> str:
    """Why nothing new may go to this node at present, or an empty string."""
    if not node.ready:
        return "is not ready"
    return "is cordoned" if node.unschedulable else ""


Cost = tuple[bool, int, int, int, str]
"""How dear a node is to a demand: no home, holes lost, GPUs left over, siblings, its name."""


@dataclass(slots=True)
class _Queue:
    """The nodes that can take a demand, the cheapest first. Entries may be out of date."""

    demand: Demand
    heap: list[Cost]


class Room:
    """Free GPUs per node while one plan is made. Every placement takes from it."""

    def __init__(self, nodes: Iterable[Node], replicas: Iterable[Replica]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._held: dict[tuple[str, str], int] = {}
        self._tiers: dict[tuple[str, str], int] = {}
        self._withheld: set[str] = set()
        self._counted: set[str] = set()
        self._queues: dict[tuple[str, str, int, int, frozenset[str]], _Queue] = {}
        # Shared by all copies: within one plan an engine's hosts do not change.
        self._hosts: dict[tuple[str, str, int], frozenset[str]] = {}
        self._count_held(replicas)

    def _count_held(self, replicas: Iterable[Replica]) -> None:
        """Inventory first; replicas that it does not show yet hold GPUs where they are pinned."""
        for node in self._nodes.values():
            for hold in node.holds:
                self._counted.add(hold.uid)
                self._hold(node.name, hold.resource, hold.count)
        for replica in replicas:
            if replica.phase in FINISHED_PHASES or not replica.node:
                continue
            self._join(replica.node, replica.tier)
            if not self.counts(replica):
                self._hold(replica.node, replica.resource, replica.gpus)

    def counts(self, replica: Replica) -> bool:
        """Whether the inventory already counts a replica's GPUs on some node."""
        return replica.uid in self._counted

    def _hold(self, node: str, resource: str, count: int) -> None:
        self._held[node, resource] = self._held.get((node, resource), 0) + count

    def _join(self, node: str, tier: str) -> None:
        self._tiers[node, tier] = self._tiers.get((node, tier), 0) + 1

    def free(self, node: Node, resource: str) -> int:
        """GPUs of a node that nobody holds; never negative."""
        held = self._held.get((node.name, resource), 0)
        return max(0, node.allocatable.get(resource, 0) - held)

    def copy(self) -> Room:
        """An independent ledger, for questions that must not take anything."""
        twin = Room((), ())
        twin._nodes = self._nodes
        twin._held = dict(self._held)
        twin._counted = self._counted
        twin._tiers = dict(self._tiers)
        twin._withheld = set(self._withheld)
        twin._queues = {
            key: _Queue(queue.demand, list(queue.heap)) for key, queue in self._queues.items()
        }
        twin._hosts = self._hosts
        return twin

    def release(self, node: str, resource: str, count: int) -> None:
        """Give GPUs back: to ask what would be possible if a replica were gone."""
        self._hold(node, resource, -count)
        self._requeue(node)

    def take(self, demand: Demand) -> Node | None:
        """Place one replica on the best node, or return None where there is no room."""
        heap = self._queue(demand).heap
        while heap:
            cost = heapq.heappop(heap)
            node = self._nodes[cost[-1]]
            if self._cost(node, demand) == cost:
                self._hold(node.name, demand.resource, demand.gpus)
                self._join(node.name, demand.tier)
                self._requeue(node.name)
                return node
        return None

    def count(self, demand: Demand, limit: int) -> int:
        """How many replicas could be placed now, at most `limit`. Takes nothing."""
        trial = self.copy()
        placed = 0
        while placed < limit and trial.take(demand) is not None:
            placed += 1
        return placed

    def _queue(self, demand: Demand) -> _Queue:
        key = demand.engine, demand.tier, demand.gpus, demand.hole, demand.homes
        if key not in self._queues:
            costs = (self._cost(self._nodes[name], demand) for name in self._hosts_of(demand))
            heap = [cost for cost in costs if cost is not None]
            heapq.heapify(heap)
            self._queues[key] = _Queue(demand, heap)
        return self._queues[key]

    def _requeue(self, name: str) -> None:
        """The costs of a node changed: let every queue know the new one."""
        for queue in self._queues.values():
            if name in self._hosts_of(queue.demand):
                cost = self._cost(self._nodes[name], queue.demand)
                if cost is not None:
                    heapq.heappush(queue.heap, cost)

    def _hosts_of(self, demand: Demand) -> frozenset[str]:
        """Nodes that are well and could take the demand, were they empty."""
        key = demand.engine, demand.tier, demand.gpus
        if key not in self._hosts:
            self._hosts[key] = frozenset(
                node.name
                for node in self._nodes.values()
                if not health_refusal(node) and not demand.refuses(node)
            )
        return self._hosts[key]

    def _cost(self, node: Node, demand: Demand) -> Cost | None:
        """What one of the demand's hosts costs now; None where it has no room."""
        free = self.free(node, demand.resource)
        left = free - demand.gpus
        if left < 0 or node.name in self._withheld:
            return None
        lost = free // demand.hole - left // demand.hole if demand.hole else 0
        siblings = self._tiers.get((node.name, demand.tier), 0)
        return node.name not in demand.homes, lost, left, siblings, node.name

    def withhold_best(self, demand: Demand) -> None:
        """Keep the node that is nearest to having room for a waiting replica from other tiers."""
        hosts = (self._nodes[name] for name in self._hosts_of(demand) - self._withheld)
        waiting = [
            node for node in hosts if node.allocatable.get(demand.resource, 0) >= demand.gpus
        ]
        if waiting:
            nearest = min(waiting, key=lambda node: (-self.free(node, demand.resource), node.name))
            self._withheld.add(nearest.name)

    def shortage(self, demand: Demand) -> str:
        """One sentence: what a replica needs, and how near the best node comes."""
        need = f"needs {gpus_text(demand.gpus)} on one node"
        possible = [
            node
            for node in self._nodes.values()
            if not demand.refuses(node) and demand.resource in node.allocatable
        ]
        if not possible:
            return f"{need}; no node of this cluster may host it"
        best = min(possible, key=lambda node: self._distance(node, demand))
        return f"{need}; best node {best.name} {self._state(best, demand)}"

    def _distance(self, node: Node, demand: Demand) -> tuple[bool, int, str]:
        return bool(health_refusal(node)), -self.free(node, demand.resource), node.name

    def _state(self, node: Node, demand: Demand) -> str:
        unhealthy = health_refusal(node)
        if unhealthy:
            return unhealthy
        parts = [f"has {self.free(node, demand.resource)} free"]
        if node.name in self._withheld:
            parts.append("and is kept for the flagship")
        holders = _holders(node, demand.resource)
        return ", ".join([*parts, *holders])


def gpus_text(count: int) -> str:
    """So many free GPUs, in words."""
    return "1 free GPU" if count == 1 else f"{count} free GPUs"


def _holders(node: Node, resource: str) -> list[str]:
    """Who holds GPUs of a node: the largest two by name, the others as a sum."""
    holds: Sequence[tuple[int, str]] = sorted(
        (-hold.count, f"{hold.namespace}/{hold.pod}")
        for hold in node.holds
        if hold.resource == resource and hold.count
    )
    named = [f"{-count} held by {pod}" for count, pod in holds[:2]]
    rest = -sum(count for count, _ in holds[2:])
    return [*named, f"{rest} by others"] if rest else named
