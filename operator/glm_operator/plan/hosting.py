"""Which nodes could host a replica of an engine that is already sized."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.api.quantities import exact, text
from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.fit import gpu_refusal
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints, node_refusal
from glm_operator.plan.sizing import GIB, Ask, Option, Shape, size


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
        self._proven_bytes = engine.gpu_bytes
        self._cpu, self._memory = exact(engine.cpu), exact(engine.memory)
        self._needs = f"{engine.cpu} CPUs and {engine.memory} of memory"
        self._known: dict[tuple[str, str, str, int], Option | str] = {}

    @property
    def key(self) -> str:
        """Names everything that this judges by: engines that share it share their hosts."""
        host = self._needs, self._proven_bytes
        return repr((self._wanted, self._ask, self._sharding, *host))

    def hosts(self, nodes: Iterable[Node]) -> list[Node]:
        """The nodes that could host a replica, were they empty."""
        groups = Kinds.of(nodes).alike(self._wanted)
        fitting = (node for group in groups if not self._refused(group[0]) for node in group)
        return [node for node in fitting if not self._is_small(node)]

    def refusal(self, node: Node) -> str:
        """Why a node can never host a replica, or an empty string."""
        refused = self._refused(node)
        if refused or not self._is_small(node):
            return refused
        gives = f"{text(Fraction(node.cpu_milli, 1000))} CPUs and {node.memory_bytes / GIB:.1f} GiB"
        return f"gives pods {gives} of memory, and a replica asks for {self._needs}"

    def _refused(self, node: Node) -> str:
        """Why a node's placement or GPUs rule it out: the same for all nodes that are alike."""
        refusal = node_refusal(node, self._wanted)
        if refusal:
            return refusal
        found = self._sized(node)
        return found if isinstance(found, str) else ""

    def _is_small(self, node: Node) -> bool:
        """Whether even the empty node has too little CPU or memory; unknown is enough."""
        lacks_cpu = node.cpu_milli and self._cpu and self._cpu * 1000 > node.cpu_milli
        return bool(
            lacks_cpu or (node.memory_bytes and self._memory and self._memory > node.memory_bytes)
        )

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
        if isinstance(found, Option):
            return found
        proven = found.reason == reasons.TOO_LITTLE_MEMORY and self._is_proven(gpu)
        return self._as_recorded(gpu) if proven else found.message

    def _is_proven(self, gpu: gpus.GPU) -> bool:
        """Whether the size was once found to fit such a GPU: a later version may count otherwise,
        and a replica that is lost must come back where it ran."""
        return 0 < self._proven_bytes <= gpu.memory_bytes

    def _as_recorded(self, gpu: gpus.GPU) -> Option:
        """The recorded size on a GPU that today's arithmetic finds too small."""
        return Option(
            gpu=gpu.product,
            gpu_bytes=gpu.memory_bytes,
            tensor=self._sharding.tensor,
            max_model_len=self._ask.max_model_len,
            kv_tokens=self._ask.max_model_len * self._ask.sequences,
            headroom_bytes=0,
            pipeline=self._sharding.pipeline,
            expert=self._sharding.expert,
            fp8_kv_cache=self._fp8_kv,
        )


def ask_of(engine: EngineSpec) -> Ask:
    """What a recorded engine asks of the memory of its GPUs."""
    found = checkpoint_of(engine)
    return Ask(
        model=found.model,
        form=found.form,
        max_model_len=engine.max_model_len,
        kv_cache="FP8" if engine.fp8_kv_cache else "BF16",
        sequences=engine.full_length_sequences,
        videos=engine.max_videos,
    )


def checkpoint_of(engine: EngineSpec) -> catalog.Checkpoint:
    """The model of a recorded engine as its checkpoint has it, else as the preset does."""
    model, form = catalog.get(engine.preset), catalog.Format(engine.quantization, engine.group_size)
    try:
        return catalog.adapted(model, form, engine.checkpoint)
    except catalog.CheckpointRefused:
        # Another version accepted it: what runs must not end the plan of its object.
        return catalog.Checkpoint(model, form, 0)


def can_be_hosted(engine: EngineSpec, nodes: Iterable[Node]) -> bool:
    """Whether any node, were it empty, could host a replica."""
    return bool(Hosting(engine).hosts(nodes))
