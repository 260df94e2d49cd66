"""Which nodes could host a replica of an engine that is already sized."""

from __future__ import annotations

from collections.abc import Iterable

from glm_operator import catalog
from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.fit import gpu_refusal
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints, node_refusal
from glm_operator.plan.sizing import Ask, Option, Shape, size


class Hosting:
    """Tells which nodes could host a replica of an engine, were they empty.

    What depends on the kind of node alone is computed once for each kind.
    """

    def __init__(self, engine: EngineSpec) -> None:
        self._wanted = Constraints(
            engine.resource, engine.node_names, engine.node_selector, engine.tolerations
        )
        self._ask = ask_of(engine)
        self._sharding = engine.sharding
        self._fp8_kv = engine.fp8_kv_cache
        self._known: dict[tuple[str, str, str, int], Option | str] = {}

    @property
    def key(self) -> str:
        """Names everything that this judges by: engines that share it share their hosts."""
        return repr((self._wanted, self._ask, self._sharding))

    def hosts(self, nodes: Iterable[Node]) -> list[Node]:
        """The nodes that could host a replica, were they empty."""
        groups = Kinds.of(nodes).alike(self._wanted)
        return [node for group in groups if not self.refusal(group[0]) for node in group]

    def refusal(self, node: Node) -> str:
        """Why a node can never host a replica, or an empty string."""
        refusal = node_refusal(node, self._wanted)
        if refusal:
            return refusal
        found = self._sized(node)
        return found if isinstance(found, str) else ""

    def option(self, node: Node) -> Option | None:
        """What a replica on a node comes to; None where the node's GPUs cannot host one."""
        found = self._sized(node)
        return None if isinstance(found, str) else found

    def lack(self, gpu: gpus.GPU | None) -> str:
        """Why enough GPUs of a kind could not hold a replica; empty also for an unknown kind."""
        if gpu is None or gpu.refusal:
            return gpu.refusal if gpu else ""
        found = size(self._ask, Shape(gpu, self._sharding.gpus), self._sharding, self._fp8_kv)
        return "" if isinstance(found, Option) else found.message

    def _sized(self, node: Node) -> Option | str:
        count = node.allocatable.get(self._wanted.resource, 0)
        kind = *gpus.told(node.labels, self._wanted.resource), count
        if kind not in self._known:
            self._known[kind] = self._size(node, count)
        return self._known[kind]

    def _size(self, node: Node, count: int) -> Option | str:
        gpu = gpus.of_labels(node.labels, self._wanted.resource)
        refusal = gpu_refusal(gpu, node, self._wanted.resource)
        if gpu is None or refusal:
            return refusal
        found = size(self._ask, Shape(gpu, count), self._sharding, self._fp8_kv)
        return found if isinstance(found, Option) else found.message


def ask_of(engine: EngineSpec) -> Ask:
    """What a recorded engine asks of the memory of its GPUs."""
    return Ask(
        model=catalog.get(engine.preset),
        form=catalog.Format(engine.quantization, engine.group_size),
        max_model_len=engine.max_model_len,
        kv_cache="FP8" if engine.fp8_kv_cache else "BF16",
        sequences=engine.full_length_sequences,
        videos=engine.max_videos,
    )


def can_be_hosted(engine: EngineSpec, nodes: Iterable[Node]) -> bool:
    """Whether any node, were it empty, could host a replica."""
    return bool(Hosting(engine).hosts(nodes))
