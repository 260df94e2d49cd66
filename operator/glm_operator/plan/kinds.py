"""Nodes that are alike in what tells whether they could host a replica: looked at once for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from glm_operator.catalog import gpus
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints


class Kinds:
    """The nodes of a cluster, and which of them are alike.

    A cluster has thousands of nodes and a handful of kinds; a plan asks of all nodes again and
    again. What is held on a node and whether it is well plays no part.
    """

    def __init__(self, nodes: Iterable[Node]) -> None:
        self._nodes = tuple(nodes)
        self._alike: dict[tuple[object, ...], tuple[tuple[Node, ...], ...]] = {}

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Kinds:
        """These nodes, grouped anew only where they are not yet."""
        return nodes if isinstance(nodes, cls) else cls(nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def alike(self, wanted: Constraints) -> tuple[tuple[Node, ...], ...]:
        """Groups of nodes of which the constraints and the GPUs say the same.

        They have the same GPUs, as many of them, the same taints and the same selected labels, and
        either all or none are among the named nodes.
        """
        keys = (*gpus.telling_labels(wanted.resource), *sorted(wanted.node_selector or ()))
        names = frozenset(wanted.node_names)
        asked = wanted.resource, keys, names
        if asked not in self._alike:
            groups: dict[tuple[object, ...], list[Node]] = {}
            for node in self._nodes:
                told = node.labels.get
                count = node.allocatable.get(wanted.resource)
                kind = count, node.name in names, node.taints, *[told(one) for one in keys]
                groups.setdefault(kind, []).append(node)
            self._alike[asked] = tuple(tuple(group) for group in groups.values())
        return self._alike[asked]
