"""Which sizes of a tier fit which nodes, and why the others do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.catalog import Sharding, gpus
from glm_operator.catalog.sharding import PIPELINES
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints, node_refusal
from glm_operator.plan.sizing import AUTO, FP8, Ask, Misfit, Option, Shape, budget_of, lacks, size


@dataclass(frozen=True, slots=True)
class Rejection:
    """One way of running the tier that was not taken, and why."""

    option: str
    reason: str
    """One of the catalogue's."""
    message: str
    """The same as a sentence with its figures."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Every option that fits, the best first, and every other with its reason."""

    options: tuple[Option, ...]
    rejected: tuple[Rejection, ...]
    """The one that came nearest to fitting first."""


Sized = tuple[str, Option | Misfit]
"""A candidate in words, and what came of it."""


def fit(ask: Ask, wanted: Constraints, nodes: Iterable[Node]) -> Fit:
    """Size the tier for every kind of node that it accepts.

    An automatic KV cache is BF16; FP8 is looked at only where nothing fits otherwise, and only on
    GPUs that compute in it.
    """
    shapes, left_out = shapes_of(wanted, nodes)
    sized = [one for shape in shapes for one in _sized(ask, shape, ask.kv_cache == FP8)]
    if ask.kv_cache == AUTO and not _options(sized):
        small = [shape for shape in shapes if shape.gpu.has_fp8]
        sized += [one for shape in small for one in _sized(ask, shape, True)]
    options = sorted(_options(sized), key=lambda one: _rank(ask, one))
    near_first = sorted(_misfits(sized), key=lambda one: one[1].distance)
    misfits = (Rejection(option, misfit.reason, misfit.message) for option, misfit in near_first)
    return Fit(tuple(dict.fromkeys(options)), (*misfits, *_illegal(ask), *left_out))


def _options(sized: Iterable[Sized]) -> list[Option]:
    return [found for _, found in sized if isinstance(found, Option)]


def _misfits(sized: Iterable[Sized]) -> list[tuple[str, Misfit]]:
    return [(option, found) for option, found in sized if isinstance(found, Misfit)]


def _sized(ask: Ask, shape: Shape, fp8_kv: bool) -> list[Sized]:
    """Every candidate on one kind of node.

    Stages that nobody asked for are looked at only where nothing fits without them, and where the
    tensor parallel size is the planner's choice too.
    """
    flat = [_try(ask, shape, one, fp8_kv) for one in _flat(ask, shape, fp8_kv)]
    if ask.tensor or ask.pipeline or _options(flat):
        return flat
    return [*flat, *(_try(ask, shape, one, fp8_kv) for one in _staged(ask, shape))]


def _try(ask: Ask, shape: Shape, sharding: Sharding, fp8_kv: bool) -> Sized:
    cache = ", FP8 KV cache" if fp8_kv else ""
    option = f"{sharding.describe()}{cache} on {shape.describe()}"
    return option, size(ask, shape, sharding, fp8_kv)


def _flat(ask: Ask, shape: Shape, fp8_kv: bool) -> list[Sharding]:
    """Shardings without stages that were not asked for.

    Of those larger than the node one is enough: the one that would fit, else the next larger.
    """
    found = _automatic(ask, ask.pipeline or 1)
    larger = [one for one in found if one.gpus > shape.gpus]
    would_fit = [one for one in larger if lacks(ask, budget_of(ask, shape.gpu, one, fp8_kv)) <= 0]
    return [*(one for one in found if one.gpus <= shape.gpus), *(would_fit or larger)[:1]]


def _staged(ask: Ask, shape: Shape) -> list[Sharding]:
    found = (one for stages in PIPELINES[1:] for one in _automatic(ask, stages))
    return [one for one in found if one.gpus <= shape.gpus]


def _automatic(ask: Ask, pipeline: int) -> list[Sharding]:
    """The shardings that the planner may choose, by their GPUs; an explicit one alone."""
    if ask.tensor:
        return [ask.sharding(ask.tensor, pipeline)]
    legal = (ask.sharding(tensor, pipeline) for tensor in catalog.legal_tensor(ask.model))
    return [one for one in legal if not catalog.group_refusal(ask.model, ask.form, one)]


def _illegal(ask: Ask) -> Iterator[Rejection]:
    """Sizes that the heads would allow and the groups of the checkpoint do not."""
    if ask.tensor:
        return
    for tensor in catalog.legal_tensor(ask.model):
        message = catalog.group_refusal(ask.model, ask.form, ask.sharding(tensor, 1))
        if message:
            yield Rejection(f"tensor {tensor}", reasons.GROUPS_CUT, message)


def _rank(ask: Ask, option: Option) -> tuple[bool, int, int, int, str, int]:
    """The full length before a shorter one, then few GPUs, few stages, a long context."""
    return (
        option.max_model_len < ask.full_length,
        option.sharding.gpus,
        option.pipeline,
        -option.max_model_len,
        option.gpu,
        option.gpu_bytes,
    )


def shapes_of(wanted: Constraints, nodes: Iterable[Node]) -> tuple[list[Shape], list[Rejection]]:
    """The kinds of nodes that are accepted, and one rejection for each reason of the others."""
    shapes: set[Shape] = set()
    refused: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in Kinds.of(nodes).alike(wanted):
        one, names = group[0], [node.name for node in group]
        count = one.allocatable.get(wanted.resource, 0)
        if not count:
            continue
        gpu = gpus.of_labels(one.labels, wanted.resource)
        excluded = node_refusal(one, wanted)
        unusable = gpu_refusal(gpu, one, wanted.resource)
        if excluded:
            refused[reasons.PLACEMENT_EXCLUDES, excluded] += names
        elif gpu is None or unusable:
            refused[reasons.GPU_UNUSABLE, unusable] += names
        else:
            shapes.add(Shape(gpu, count))
    ordered = sorted(shapes, key=lambda one: (one.gpu.product, one.gpu.memory_mib, one.gpus))
    return ordered, [_left_out(*why, sorted(refused[why])) for why in sorted(refused)]


def _left_out(reason: str, message: str, nodes: list[str]) -> Rejection:
    others = f" and {len(nodes) - 1} like it" if len(nodes) > 1 else ""
    return Rejection(f"node {nodes[0]}{others}", reason, message)


def gpu_refusal(gpu: gpus.GPU | None, node: Node, resource: str) -> str:
    """Why the GPUs of a node cannot be used, or an empty string."""
    if gpu is not None:
        return gpu.refusal
    product = gpus.told(node.labels, resource)[0]
    known = f"the catalogue does not know {product}" if product else "it has no GPU labels"
    label = gpus.memory_label(resource)
    return f"the memory of its {resource} is unknown: {known} ({label} would tell)"
