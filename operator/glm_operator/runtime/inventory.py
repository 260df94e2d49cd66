"""Nodes and the pods that hold GPUs, trimmed and in memory, fed by two watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.execute import UNFINISHED
from glm_operator.kube.resources import NODE, POD, Resource
from glm_operator.kube.watch import Change, Gone, Heard, Put, Snapshot, Source, Watch, key_of
from glm_operator.plan.observed import Hold, Node
from glm_operator.runtime.queue import Key
from glm_operator.runtime.steady import Steady

Later = Callable[[float, Callable[[], None]], object]
"""Runs a function in the event loop's thread after so many seconds."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod that holds GPUs, or an engine pod of ours that may hold none."""

    uid: str
    node: str
    holds: tuple[Hold, ...]
    owner: Key | None
    """The GLMDeployment it belongs to."""


@dataclass(frozen=True, slots=True)
class Affected:
    """What a change means to the objects."""

    owners: frozenset[Key] = frozenset()
    """Objects with replicas on a node that changed."""
    frees: bool = False
    """Something that had no room may have it now."""


def trim_pod(pod: Mapping[str, Any]) -> Holder | None:
    """What is kept of a pod; None when it holds nothing and is not ours."""
    holds = convert.holds_of(pod)
    engine = convert.is_engine(pod)
    node = convert.holding_node(pod)
    if not node or not (holds or engine):
        return None
    metadata = pod["metadata"]
    owner = (metadata["namespace"], metadata["labels"][names.LABEL_DEPLOYMENT]) if engine else None
    return Holder(metadata.get("uid", ""), node, holds, owner)


def has_room_now(before: Node | None, after: Node | None) -> bool:
    """Whether something may fit on a node that could not before. More than enough is fine."""
    if after is None or not after.ready or after.unschedulable:
        return False
    if before is None or not before.ready or before.unschedulable:
        return True
    if (before.labels, before.taints) != (after.labels, after.taints):
        return True
    if after.cpu_milli > before.cpu_milli or after.memory_bytes > before.memory_bytes:
        return True
    return any(
        count > before.allocatable.get(resource, 0) for resource, count in after.allocatable.items()
    )


class Inventory:
    """The state of the cluster's GPUs. All methods run in the event loop's thread.

    A node that offers fewer GPUs than before counts with as many as before until that has lasted.

    Args:
        changed: told what every change means.
        clock: a clock that never goes back, in seconds.
        later: wakes the inventory when a fall begins to count.
    """

    def __init__(
        self, changed: Callable[[Affected], None], clock: Callable[[], float], later: Later
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._later = later
        self._bare: dict[str, Node] = {}
        self._told: dict[str, Node] = {}
        self._steady: dict[str, Steady] = {}
        self._falling: set[str] = set()
        self._pods: dict[Key, Holder] = {}
        self._on_node: dict[str, dict[Key, Holder]] = {}
        self._whole: dict[str, Node] = {}
        self._all: tuple[Node, ...] | None = None
        self._heard: dict[Resource, float] = {}
        self._listed: set[Resource] = set()
        self.synced = asyncio.Event()
        """Set once both lists have been seen; before that nothing may be planned."""

    def begin(self) -> None:
        """The two watches start: from now on their silence counts."""
        self._heard = dict.fromkeys((NODE, POD), self._clock())

    def age(self) -> float:
        """Seconds since the quieter of the two watches was last heard of; 0 before they begin."""
        now = self._clock()
        return now - min(self._heard.values(), default=now)

    def nodes(self) -> tuple[Node, ...]:
        """All nodes by name, each with what is held on it."""
        if self._all is None:
            self._all = tuple(self._node(name) for name in sorted(self._bare))
        return self._all

    def _node(self, name: str) -> Node:
        whole = self._whole.get(name)
        if whole is None:
            holders = self._on_node.get(name, {})
            holds = tuple(hold for key in sorted(holders) for hold in holders[key].holds)
            whole = self._whole[name] = replace(self._bare[name], holds=holds)
        return whole

    def planned(self) -> dict[str, int]:
        """GPUs that engine pods of ours hold, bound or only pinned, by resource."""
        totals: dict[str, int] = {}
        for holder in self._pods.values():
            for hold in holder.holds if holder.owner is not None else ():
                totals[hold.resource] = totals.get(hold.resource, 0) + hold.count
        return totals

    def assume(self, pod: Mapping[str, Any]) -> None:
        """Count a pod that was just created, before the watch tells of it."""
        holder = trim_pod(pod)
        if holder is not None:
            self._put_pod(key_of(pod), holder)

    def node_change(self, change: Change[Node]) -> None:
        """Take in one change of the nodes' watch."""
        self._hear(NODE)
        match change:
            case Snapshot(items):
                fresh = {name: node for (_, name), node in items.items()}
                for name in sorted(self._bare.keys() | fresh.keys()):
                    self._hear_node(name, fresh.get(name))
            case Put((_, name), node):
                self._hear_node(name, node)
            case Gone((_, name)):
                self._hear_node(name, None)
            case Heard():
                pass

    def _hear_node(self, name: str, node: Node | None) -> None:
        """Take in what a node says of itself; a node that is gone counts as that at once."""
        before = self._told.pop(name, None)
        if node is None:
            self._steady.pop(name, None)
            self._set_node(name, None, frees=False)
            return
        self._told[name] = node
        # More GPUs than a moment ago are news also where the fewer ones never counted.
        frees = before != node and has_room_now(before, node)
        self._set_node(name, self._steadied(name, node), frees=frees)

    def _steadied(self, name: str, node: Node) -> Node:
        """The node as it counts now. It is looked at again when a fall begins to count."""
        steady = self._steady.setdefault(name, Steady())
        now = self._clock()
        allocatable = steady.hear(node.allocatable, now)
        falls_at = steady.falls_at()
        if falls_at is not None and name not in self._falling:
            self._falling.add(name)
            self._later(falls_at - now, lambda: self._fall(name))
        return replace(node, allocatable=allocatable)

    def _fall(self, name: str) -> None:
        """The time has come at which fewer GPUs of a node may count."""
        self._falling.discard(name)
        node = self._told.get(name)
        if node is not None:
            self._set_node(name, self._steadied(name, node), frees=False)

    def _set_node(self, name: str, node: Node | None, *, frees: bool) -> None:
        before = self._bare.get(name)
        if before == node and not frees:
            return
        if node is None:
            del self._bare[name]
        else:
            self._bare[name] = node
        self._spoil([name])
        owners = (holder.owner for holder in self._on_node.get(name, {}).values())
        found = frozenset(owner for owner in owners if owner is not None)
        self._changed(Affected(found, frees))

    def pod_change(self, change: Change[Holder]) -> None:
        """Take in one change of the pods' watch."""
        self._hear(POD)
        match change:
            case Snapshot(items):
                for key in self._pods.keys() - items.keys():
                    self._drop_pod(key)
                for key, holder in items.items():
                    self._put_pod(key, holder)
            case Put(key, holder):
                self._put_pod(key, holder)
            case Gone(key):
                self._drop_pod(key)
            case Heard():
                pass

    def _hear(self, resource: Resource) -> None:
        self._heard[resource] = self._clock()
        self._listed.add(resource)
        if self._listed >= {NODE, POD}:
            self.synced.set()

    def _put_pod(self, key: Key, holder: Holder) -> None:
        before = self._pods.get(key)
        if before == holder:
            return
        if before is not None and (before.uid, before.node) != (holder.uid, holder.node):
            self._drop_pod(key)
        self._pods[key] = holder
        self._on_node.setdefault(holder.node, {})[key] = holder
        self._spoil([holder.node])

    def _drop_pod(self, key: Key) -> None:
        holder = self._pods.pop(key, None)
        if holder is None:
            return
        siblings = self._on_node[holder.node]
        del siblings[key]
        if not siblings:
            del self._on_node[holder.node]
        self._spoil([holder.node])
        self._changed(Affected(frees=bool(holder.holds)))

    def _spoil(self, nodes: Iterable[str]) -> None:
        for name in nodes:
            self._whole.pop(name, None)
        self._all = None


def watches(
    source: Source, inventory: Inventory, post: Callable[[Callable[[], None]], None]
) -> tuple[Watch[Node], Watch[Holder]]:
    """The two watches that feed an inventory.

    Args:
        source: sends requests.
        inventory: receives every change.
        post: runs a function in the event loop's thread.
    """

    def nodes(change: Change[Node]) -> None:
        post(lambda: inventory.node_change(change))

    def pods(change: Change[Holder]) -> None:
        post(lambda: inventory.pod_change(change))

    return (
        Watch(source, NODE, convert.node_of, nodes),
        Watch(source, POD, trim_pod, pods, fields=UNFINISHED),
    )
