"""Which sizes of a tier fit which nodes, and why the others do not.

Exact by the catalogue: weights and KV cache are arithmetic, only the reserve is an estimate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from glm_operator import catalog
from glm_operator.catalog import gpus
from glm_operator.catalog.sharding import LARGEST_TENSOR
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints, gpus_text, node_refusal

GIB = 1 << 30
CONTEXT_STEP = 1024
"""Automatic lengths are whole multiples, so that a few bytes more or less change nothing."""
SHORTEST_CONTEXT = 2048
"""Tokens; less does not hold the functional checks of a new replica."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be sized, as the user wrote it."""

    model: catalog.Model
    quantization: str
    tensor: int
    """0: the planner chooses."""
    max_model_len: int
    """Tokens; 0: the longest that fits."""
    fp8_kv_cache: bool


@dataclass(frozen=True, slots=True)
class Shape:
    """Nodes that are alike: the same GPU, and as many of them."""

    product: str
    gpu_bytes: int
    gpus: int

    def describe(self) -> str:
        """The shape in words."""
        return f"{self.gpus} x {self.product} ({_gib(self.gpu_bytes)})"


@dataclass(frozen=True, slots=True)
class Option:
    """One way of running the tier that fits."""

    gpu: str
    gpu_bytes: int
    tensor: int
    max_model_len: int
    kv_tokens: int
    """Tokens that the KV cache of one replica holds."""
    headroom_bytes: int
    """Memory of each GPU that is left beside one request of full length."""

    @property
    def full_length_sequences(self) -> int:
        """Requests of full length that one replica holds at once."""
        return self.kv_tokens // self.max_model_len

    def describe(self) -> str:
        """The option in words."""
        return f"tensor {self.tensor} on {self.gpu}"


@dataclass(frozen=True, slots=True)
class Rejection:
    """One way of running the tier that was not taken, and why in one sentence."""

    option: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Every option that fits, the best first, and every other with its reason."""

    options: tuple[Option, ...]
    rejected: tuple[Rejection, ...]
    """The one that came nearest to fitting first."""


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Why a size does not fit, and by how much."""

    reason: str
    distance: tuple[int, int]
    """How far it is from fitting: kind of lack, then GPUs or bytes."""


GPUS_LACK, MEMORY_LACKS, BOTH_LACK = range(3)
"""Kinds of lack: with more of the same GPUs it would fit; each GPU is too small; both."""


def fit(ask: Ask, wanted: Constraints, nodes: Iterable[Node]) -> Fit:
    """Size the tier for every kind of node that it accepts."""
    shapes, left_out = _shapes(wanted, nodes)
    options: list[Option] = []
    misfits: list[tuple[tuple[int, int], Rejection]] = []
    for shape in shapes:
        for tensor in _tensors(ask, shape):
            found = _size(ask, shape, tensor)
            if isinstance(found, Option):
                options.append(found)
            else:
                rejection = Rejection(f"tensor {tensor} on {shape.describe()}", found.reason)
                misfits.append((found.distance, rejection))
    options.sort(key=lambda one: _rank(ask, one))
    misfits.sort(key=lambda one: one[0])
    near_first = (rejection for _, rejection in misfits)
    return Fit(tuple(dict.fromkeys(options)), (*near_first, *_illegal(ask), *left_out))


class Hosting:
    """Tells which nodes could host a replica of an engine, were they empty.

    What depends on the kind of node alone is computed once for each kind.
    """

    def __init__(self, engine: EngineSpec) -> None:
        self._wanted = Constraints(
            engine.resource, engine.node_names, engine.node_selector, engine.tolerations
        )
        self._ask = Ask(
            catalog.get(engine.preset),
            engine.quantization,
            engine.tensor,
            engine.max_model_len,
            engine.fp8_kv_cache,
        )
        self._known: dict[tuple[str, str, int], Option | str] = {}

    @property
    def key(self) -> str:
        """Names everything that this judges by: engines that share it share their hosts."""
        return repr((self._wanted, self._ask))

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

    def _sized(self, node: Node) -> Option | str:
        count = node.allocatable.get(self._wanted.resource, 0)
        kind = *gpus.told(node.labels, self._wanted.resource), count
        if kind not in self._known:
            self._known[kind] = self._size(node, count)
        return self._known[kind]

    def _size(self, node: Node, count: int) -> Option | str:
        gpu = gpus.of_labels(node.labels, self._wanted.resource)
        refusal = _gpu_refusal(gpu, node, self._wanted.resource)
        if gpu is None or refusal:
            return refusal
        shape = Shape(gpu.product, gpu.memory_bytes, count)
        found = _size(self._ask, shape, self._ask.tensor)
        return found if isinstance(found, Option) else found.reason


def _gpu_refusal(gpu: gpus.GPU | None, node: Node, resource: str) -> str:
    """Why the GPUs of a node cannot be used, or an empty string."""
    return _unknown_gpu(node, resource) if gpu is None else gpu.refusal


def _unknown_gpu(node: Node, resource: str) -> str:
    product, _ = gpus.told(node.labels, resource)
    known = f"the catalogue does not know {product}" if product else "it has no GPU labels"
    label = gpus.memory_label(resource)
    return f"the memory of its {resource} is unknown: {known} ({label} would tell)"


def _shapes(wanted: Constraints, nodes: Iterable[Node]) -> tuple[list[Shape], list[Rejection]]:
    """The kinds of nodes that are accepted, and one rejection for each reason of the others."""
    shapes: set[Shape] = set()
    refused: dict[str, list[str]] = defaultdict(list)
    kinds: dict[tuple[str, str], gpus.GPU | None] = {}
    for node in nodes:
        count = node.allocatable.get(wanted.resource, 0)
        if not count:
            continue
        kind = gpus.told(node.labels, wanted.resource)
        if kind not in kinds:
            kinds[kind] = gpus.of_labels(node.labels, wanted.resource)
        gpu = kinds[kind]
        reason = node_refusal(node, wanted) or _gpu_refusal(gpu, node, wanted.resource)
        if gpu is None or reason:
            refused[reason].append(node.name)
        else:
            shapes.add(Shape(gpu.product, gpu.memory_bytes, count))
    ordered = sorted(shapes, key=lambda one: (one.product, one.gpu_bytes, one.gpus))
    return ordered, [_left_out(reason, sorted(refused[reason])) for reason in sorted(refused)]


def _left_out(reason: str, nodes: list[str]) -> Rejection:
    others = f" and {len(nodes) - 1} like it" if len(nodes) > 1 else ""
    return Rejection(f"node {nodes[0]}{others}", reason)


def _tensors(ask: Ask, shape: Shape) -> list[int]:
    """The sizes to look at; of those larger than the node, the one that would fit."""
    if ask.tensor:
        return [ask.tensor]
    sizes = catalog.automatic_tensor(ask.model, ask.quantization)
    larger = [size for size in sizes if size > shape.gpus]
    would_fit = [size for size in larger if _memory(ask, shape, size).lacking <= 0]
    return [*(size for size in sizes if size <= shape.gpus), *(would_fit or larger)[:1]]


def _illegal(ask: Ask) -> Iterator[Rejection]:
    """Sizes that heads would allow and the checkpoint's quantisation does not."""
    if ask.tensor:
        return
    for tensor in catalog.legal_tensor(ask.model):
        reason = catalog.group_refusal(ask.model, ask.quantization, tensor)
        if reason:
            yield Rejection(f"tensor {tensor}", reason)


@dataclass(frozen=True, slots=True)
class _Memory:
    """One GPU's memory under one size."""

    cache: int
    """Bytes left for KV cache; negative where not even the weights fit."""
    per_token: int
    length: int
    """Tokens of the longest conversation that is wanted or possible."""

    @property
    def tokens(self) -> int:
        return max(0, self.cache // self.per_token)

    @property
    def lacking(self) -> int:
        """Bytes that are missing for one conversation of full length."""
        return self.length * self.per_token - self.cache


def _memory(ask: Ask, shape: Shape, tensor: int) -> _Memory:
    cache = catalog.kv_cache_bytes(ask.model, ask.quantization, tensor, shape.gpu_bytes)
    per_token = catalog.kv_bytes_per_token(ask.model, tensor, ask.fp8_kv_cache)
    length = ask.max_model_len or _longest(ask.model, max(0, cache // per_token))
    return _Memory(cache, per_token, length)


def _longest(model: catalog.Model, tokens: int) -> int:
    whole = tokens // CONTEXT_STEP * CONTEXT_STEP
    return max(SHORTEST_CONTEXT, min(model.max_context_tokens, whole))


def _size(ask: Ask, shape: Shape, tensor: int) -> Option | _Misfit:
    """The option, or why there is none in one sentence."""
    refusal = catalog.head_refusal(ask.model, tensor)
    if refusal:
        return _Misfit(refusal, (BOTH_LACK, LARGEST_TENSOR))
    memory = _memory(ask, shape, tensor)
    if tensor > shape.gpus:
        reason = f"needs {gpus_text(tensor)} on one node, and these have {shape.gpus}"
        kind = GPUS_LACK if memory.lacking <= 0 else BOTH_LACK
        return _Misfit(reason, (kind, tensor - shape.gpus))
    if memory.lacking > 0:
        return _Misfit(_too_little(ask, shape, tensor, memory), (MEMORY_LACKS, memory.lacking))
    return Option(
        gpu=shape.product,
        gpu_bytes=shape.gpu_bytes,
        tensor=tensor,
        max_model_len=memory.length,
        kv_tokens=memory.tokens,
        headroom_bytes=-memory.lacking,
    )


def _too_little(ask: Ask, shape: Shape, tensor: int, memory: _Memory) -> str:
    weights = catalog.gpu_weight_bytes(ask.model, ask.quantization, tensor)
    usable = catalog.usable_bytes(shape.gpu_bytes)
    cache = memory.cache
    left = f"leave {_gib(cache)}" if cache > 0 else f"are {_gib(-cache)} too much"
    needed = _gib(memory.length * memory.per_token)
    return (
        f"{_gib(weights)} of weights and {_gib(catalog.RESERVE_BYTES)} of reserve in"
        f" {_gib(usable)} per GPU {left}, and {memory.length} tokens of KV cache need {needed}"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _rank(ask: Ask, option: Option) -> tuple[bool, int, int, str, int]:
    """The full length before a shorter one, then the fewest GPUs, then the longest context."""
    full = ask.max_model_len or ask.model.max_context_tokens
    short = option.max_model_len < full
    return short, option.tensor, -option.max_model_len, option.gpu, option.gpu_bytes
