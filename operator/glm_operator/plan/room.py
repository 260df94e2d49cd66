"""The GPUs that are free while one plan is made, who comes first for them, and the best node."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

from glm_operator.plan.demand import Demand, Kept, Queued
from glm_operator.plan.holders import HELD, REFUSED, Holders
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.node_queue import Cost, NodeQueue
from glm_operator.plan.observed import Node, Replica
from glm_operator.plan.order import Rank
from glm_operator.plan.placement import FINISHED_PHASES
from glm_operator.plan.quota import UNLIMITED, Allowance, Lack, Limits

_QueueKey = tuple[frozenset[str], str, str, int, int, Holders]
ZONE_LABEL = "topology.kubernetes.io/zone"


class Room:
    """Free GPUs per node while one plan is made. Every placement takes from it.

    Args:
        nodes: all nodes of the cluster.
        replicas: those of the plan's own object.
        queued: what may come first for GPUs, in any order; see `let_in`.
        limits: what the namespace of the plan's own object admits.
    """

    def __init__(
        self,
        nodes: Iterable[Node],
        replicas: Iterable[Replica],
        queued: Iterable[Queued] = (),
        limits: Limits = UNLIMITED,
    ) -> None:
        self._allowance = Allowance(limits)
        self._kinds = Kinds.of(nodes)
        self._nodes = {node.name: node for node in self._kinds}
        self._zones = {node.name: zone_of(node) for node in self._kinds}
        self._held: dict[str, dict[str, int]] = {}
        self._kept: dict[str, dict[str, int]] = {}
        self._taken: dict[str, dict[str, int]] = {}
        self._open: dict[str, dict[str, int]] = {}
        self._keeps: dict[str, tuple[Kept, ...]] = {}
        self._on_node: dict[tuple[str, str], int] = {}
        self._in_zone: dict[tuple[str, str], int] = {}
        self._counted: set[str] = set()
        self._queues: dict[_QueueKey, tuple[Demand, NodeQueue]] = {}
        self._queued: list[Queued] = sorted(queued, key=lambda one: one.rank.key, reverse=True)
        # Shared by all copies: within one plan an engine's hosts do not change.
        self._hosts: dict[tuple[str, str, int], Sequence[Node]] = {}
        self._well: dict[tuple[str, str, int], frozenset[str]] = {}
        self._count_held(replicas)

    def _count_held(self, replicas: Iterable[Replica]) -> None:
        """Inventory first; replicas that it does not show yet hold GPUs where they are pinned."""
        for node in self._kinds:
            for hold in node.holds:
                self._counted.add(hold.uid)
                held = self._held.setdefault(hold.resource, {})
                held[node.name] = held.get(node.name, 0) + hold.count
        for replica in replicas:
            if replica.phase in FINISHED_PHASES or not replica.node:
                continue
            self._join(replica.node, replica.tier)
            if not self.counts(replica):
                self._hold(replica.node, replica.resource, replica.gpus)

    def copy(self) -> Room:
        """An independent ledger, for questions that must not take anything."""
        twin = Room(NO_NODES, ())
        twin._kinds, twin._nodes, twin._zones = self._kinds, self._nodes, self._zones
        twin._counted, twin._hosts, twin._well = self._counted, self._hosts, self._well
        twin._held, twin._kept = _copied(self._held), _copied(self._kept)
        twin._taken, twin._keeps = _copied(self._taken), dict(self._keeps)
        twin._open = _copied(self._open)
        twin._on_node, twin._in_zone = dict(self._on_node), dict(self._in_zone)
        twin._queues = {
            key: (demand, queue.copy()) for key, (demand, queue) in self._queues.items()
        }
        twin._queued = list(self._queued)
        twin._allowance = self._allowance.copy()
        return twin

    # What is held, kept and free.

    def counts(self, replica: Replica) -> bool:
        """Whether the inventory already counts a replica's GPUs on some node."""
        return replica.uid in self._counted

    def _hold(self, node: str, resource: str, count: int) -> None:
        _add(self._held, resource, node, count)
        if resource in self._open:
            _add(self._open, resource, node, -count)

    def _join(self, name: str, tier: str) -> None:
        self._on_node[name, tier] = self._on_node.get((name, tier), 0) + 1
        zone = self._zones.get(name)
        if zone is not None:
            self._in_zone[zone, tier] = self._in_zone.get((zone, tier), 0) + 1

    def free(self, node: Node, resource: str) -> int:
        """GPUs of a node that nobody holds, kept ones included; never negative."""
        held = self._held.get(resource, {}).get(node.name, 0)
        return max(0, node.allocatable.get(resource, 0) - held)

    def taken(self, node: Node, resource: str) -> int:
        """GPUs of a node that replicas took which this plan placed; nobody holds them yet."""
        return self._taken.get(resource, {}).get(node.name, 0)

    def has_free(self, demand: Demand) -> bool:
        """Whether a node has the GPUs, whoever they are kept for: a scheduler would use them."""
        hosts = (self._nodes[name] for name in self._well_hosts(demand))
        return any(self.free(node, demand.resource) >= demand.gpus for node in hosts)

    def kept(self, node: Node, resource: str) -> tuple[Kept, ...]:
        """What of a node is kept, the first to be served first."""
        kept = self._keeps.get(node.name, ())
        return tuple(one for one in kept if one.resource == resource)

    def release(self, node: str, resource: str, count: int) -> None:
        """Give GPUs back: to ask what would be possible if a replica were gone."""
        self._hold(node, resource, -count)
        self._requeue(node)

    def let_go(self, replica: Replica) -> None:
        """Give back all that a replica holds: to ask what would be possible if it were gone."""
        self.release(replica.node, replica.resource, replica.gpus)
        self._allowance.release(replica.resources)

    def lack(self, demand: Demand, count: int = 1) -> Lack | None:
        """Why the namespace does not admit so many replicas, whatever is free; None: it does."""
        if demand.resources is None or not count:
            return None
        trial = self._allowance.copy()
        self._admit(trial, demand, count - 1)
        return trial.lack(demand.resources)

    def admitted(self, demand: Demand, limit: int) -> int:
        """How many more replicas the namespace admits, at most `limit`. Takes nothing."""
        return self._admit(self._allowance.copy(), demand, limit)

    def admit(self, demand: Demand, count: int) -> None:
        """Count replicas that are made without a node."""
        self._admit(self._allowance, demand, count)

    @staticmethod
    def _admit(allowance: Allowance, demand: Demand, limit: int) -> int:
        if demand.resources is None:
            return limit
        count = 0
        while count < limit and allowance.lack(demand.resources) is None:
            allowance.take(demand.resources)
            count += 1
        return count

    # Taking and keeping.

    def take(self, demand: Demand) -> Node | None:
        """Place one replica on the best node, or return None where there is no room."""
        if self.lack(demand) is not None:
            return None
        home = self._home(demand, roomy=True)
        cost = home or self._best(demand)
        if cost is None or cost[0] > 0:
            return None
        node = self._nodes[cost[-1]]
        if demand.resources is not None:
            self._allowance.take(demand.resources)
        self._hold(node.name, demand.resource, demand.gpus)
        _add(self._taken, demand.resource, node.name, demand.gpus)
        self._join(node.name, demand.tier)
        self._requeue(node.name)
        return node

    def place(self, demand: Demand, limit: int) -> list[Node]:
        """Place up to so many replicas: those that are owed, then the others in their place."""
        placed: list[Node] = []
        while len(placed) < limit:
            if len(placed) == demand.owed and demand.later is not None:
                self.let_in(demand.later)
            node = self.take(demand)
            if node is None:
                break
            placed.append(node)
        return placed

    def count(self, demand: Demand, limit: int) -> int:
        """How many replicas could be placed now, at most `limit`. Takes nothing."""
        if limit <= 0:
            return 0
        self._queue(demand)  # Once for all copies.
        return len(self.copy().place(demand, limit))

    def let_in(self, rank: Rank) -> None:
        """Keep room for everything that comes before a rank."""
        while self._queued and self._queued[-1].rank.key < rank.key:
            first = self._queued.pop()
            self.keep(first.demand, first.rank, first.count)

    def keep(self, demand: Demand, rank: Rank, count: int) -> None:
        """Keep the best nodes for replicas, and where no node has room now, the nearest to it.

        Of a node that is kept as a whole there is nothing more to keep.
        """
        for _ in range(count):
            cost = self._home(demand, roomy=False) or self._nearest(demand)
            if cost is None:
                return
            self._keep(cost[-1], Kept(rank, demand.resource, demand.gpus))

    def _keep(self, name: str, kept: Kept) -> None:
        self._reckon(name, kept.resource, kept.gpus)
        self._keeps[name] = (*self._keeps.get(name, ()), kept)
        self._requeue(name)

    def _reckon(self, name: str, resource: str, gpus: int) -> None:
        _add(self._kept, resource, name, gpus)
        if resource in self._open:
            _add(self._open, resource, name, -gpus)

    def give_up(self, rank: Rank) -> None:
        """Keep nothing any more for a tier: it is about to take what was kept."""
        for name, keeps in list(self._keeps.items()):
            mine = [one for one in keeps if (one.rank.object, one.rank.tier) == _owner(rank)]
            for one in mine:
                self._reckon(name, one.resource, -one.gpus)
            if mine:
                self._keeps[name] = tuple(one for one in keeps if one not in mine)
                self._requeue(name)

    # The best node.

    def _home(self, demand: Demand, *, roomy: bool) -> Cost | None:
        """The cheapest of the demand's homes."""
        homes = demand.homes & self._well_hosts(demand) if demand.homes else frozenset()
        costs = (cost for _, cost in self._costs(demand, homes))
        return min((one for one in costs if not (roomy and (one[0] or one[1]))), default=None)

    def _best(self, demand: Demand) -> Cost | None:
        """The cheapest node: zones with fewer siblings first where no hole is lost by that."""
        best: tuple[tuple[int, ...], Cost] | None = None
        for zone, heap in self._queue(demand).zones.items():
            while heap and not self._is_true(heap[0], demand):
                heapq.heappop(heap)
            if heap:
                lacking, refused, lost, *_ = cost = heap[0]
                rank = lacking, refused, lost, self._in_zone.get((zone, demand.tier), 0)
                if best is None or (rank, cost) < best:
                    best = rank, cost
        return best[1] if best else None

    def _is_true(self, cost: Cost, demand: Demand) -> bool:
        return any(now == cost for _, now in self._costs(demand, (cost[-1],)))

    def _queue(self, demand: Demand) -> NodeQueue:
        hosts = self._well_hosts(demand)
        key = hosts, demand.resource, demand.tier, demand.gpus, demand.hole, demand.holders
        if key not in self._queues:
            queue = NodeQueue()
            self._queues[key] = demand, queue
            queue.add(self._costs(demand, self._split(demand, roomy=True)))
        return self._queues[key][1]

    def _nearest(self, demand: Demand) -> Cost | None:
        """The cheapest node, and where none has room the one that lacks least."""
        best, queue = self._best(demand), self._queue(demand)
        if best is not None or queue.whole:
            return best
        queue.whole = True
        queue.add(self._costs(demand, self._split(demand, roomy=False)))
        return self._best(demand)

    def _split(self, demand: Demand, *, roomy: bool) -> list[str]:
        """The hosts that have room, or the others. In a busy cluster most nodes are full."""
        resource = demand.resource
        if resource not in self._open:
            held, kept = self._held.get(resource, {}), self._kept.get(resource, {})
            self._open[resource] = {
                name: node.allocatable.get(resource, 0) - held.get(name, 0) - kept.get(name, 0)
                for name, node in self._nodes.items()
            }
        left = self._open[resource]
        return [one for one in self._well_hosts(demand) if (left[one] >= demand.gpus) is roomy]

    def _requeue(self, name: str) -> None:
        """The costs of a node changed: let every queue know the new one."""
        for demand, queue in self._queues.values():
            if name in self._well_hosts(demand):
                for zone, cost in self._costs(demand, (name,)):
                    queue.push(zone, cost)

    def offering(self, resource: str) -> list[Node]:
        """The nodes that have such GPUs, by name."""
        found = [node for node in self._nodes.values() if node.allocatable.get(resource)]
        return sorted(found, key=lambda node: node.name)

    def could_host(self, demand: Demand) -> Sequence[Node]:
        """Nodes that could host a replica, were they empty and well."""
        key = demand.hosting, demand.resource, demand.gpus
        if key not in self._hosts:
            self._hosts[key] = demand.hosts(self._kinds)
        return self._hosts[key]

    def _well_hosts(self, demand: Demand) -> frozenset[str]:
        """Names of the nodes that are well and could host a replica, were they empty."""
        key = demand.hosting, demand.resource, demand.gpus
        if key not in self._well:
            hosts = self.could_host(demand)
            well = frozenset(one.name for one in hosts if one.ready and not one.unschedulable)
            # Engines that differ in what they ask and not in where they could be share a queue.
            same = (known for known in self._well.values() if known == well)
            self._well[key] = next(same, well)
        return self._well[key]

    def _costs(self, demand: Demand, names: Iterable[str]) -> Iterator[tuple[str, Cost]]:
        """Zone and cost of those of the demand's hosts that can come to have room.

        In one loop: most of the time of a plan of thousands of nodes is spent here.
        """
        resource, gpus, hole, tier = demand.resource, demand.gpus, demand.hole, demand.tier
        holders = demand.holders
        held, kept = self._held.get(resource, {}), self._kept.get(resource, {})
        for name in names:
            allocatable = self._nodes[name].allocatable.get(resource, 0)
            unkept = allocatable - kept.get(name, 0)
            if allocatable < gpus or unkept <= 0:
                continue
            free = unkept - held.get(name, 0)
            left = free - gpus
            if left < 0:
                yield self._zones[name], (-left, False, 0, 0, 0, 0, name)
                continue
            lost = free // hole - left // hole if hole else 0
            far = HELD if holders.everywhere else holders.distance(name)
            siblings = self._on_node.get((name, tier), 0)
            yield self._zones[name], (0, far == REFUSED, lost, far, left, siblings, name)


NO_NODES = Kinds(())


def zone_of(node: Node) -> str:
    """The zone that a node says it is in; empty where it says none."""
    return node.labels.get(ZONE_LABEL, "")


def _owner(rank: Rank) -> tuple[tuple[str, str], str]:
    return rank.object, rank.tier


def _add(amounts: dict[str, dict[str, int]], resource: str, node: str, count: int) -> None:
    of_resource = amounts.setdefault(resource, {})
    of_resource[node] = of_resource.get(node, 0) + count


def _copied(amounts: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {resource: dict(of_resource) for resource, of_resource in amounts.items()}
