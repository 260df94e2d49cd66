"""What would help a tier that fits no node, or finds no room, the smallest change first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

from glm_operator.catalog import GPU, GPUS, Format, gpus
from glm_operator.plan.demand import Demand
from glm_operator.plan.fit import fit
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node, Replica
from glm_operator.plan.placement import Constraints, health_refusal, node_refusal
from glm_operator.plan.room import Room
from glm_operator.plan.sizing import AUTO, Ask, Option

NODE_SIZES = (1, 2, 4, 8)
"""GPUs of the nodes that are commonly sold."""

Possible = Callable[[Option], bool]
"""Whether an option would do."""


def helps(ask: Ask, wanted: Constraints, nodes: Iterable[Node]) -> tuple[str, ...]:
    """Changes of which each alone makes a tier fit, in words that follow "it would fit with"."""
    shape = smallest_node(ask, wanted.resource)
    of_node = [f"a node of {shape}"] if shape else []
    kinds = Kinds.of(nodes)
    changes = _helps(ask, wanted, kinds, lambda option: True)
    return (*changes, *_other_placement(ask, wanted, kinds), *of_node)


def _other_placement(ask: Ask, wanted: Constraints, kinds: Kinds) -> Iterator[str]:
    """What of the tier's placement alone keeps it from nodes where it would fit."""
    if wanted.node_names:
        wider = replace(wanted, node_names=())
        if fit(ask, wider, kinds).options:
            yield "other nodes in placement.nodeNames, or none"
    for key, value in sorted((wanted.node_selector or {}).items()):
        others = {name: one for name, one in (wanted.node_selector or {}).items() if name != key}
        if fit(ask, replace(wanted, node_selector=others), kinds).options:
            yield f"placement.nodeSelector without {key}={value}"
    for taint in sorted({taint.key for node in kinds for taint in node.taints}):
        tolerations = (*wanted.tolerations, {"key": taint, "operator": "Exists"})
        if fit(ask, replace(wanted, tolerations=tolerations), kinds).options:
            yield f"a toleration of the taint {taint} in placement.tolerations"


def relief(
    ask: Ask, wanted: Constraints, kinds: Kinds, room: Room, count: int = 1
) -> tuple[str, ...]:
    """Changes of the tier of which each alone gives so many waiting replicas room.

    In words that follow "it would find room with".
    """
    holes = _holes(kinds, wanted, room)

    def possible(option: Option) -> bool:
        found = (free // option.sharding.gpus for free in holes.get(option.gpu, ()))
        return sum(found) >= count

    return _helps(ask, wanted, kinds, possible)


def _holes(kinds: Kinds, wanted: Constraints, room: Room) -> Mapping[str, Sequence[int]]:
    """The GPUs that each node has free, by product."""
    found: dict[str, list[int]] = {}
    for group in kinds.alike(wanted):
        product = gpus.told(group[0].labels, wanted.resource)[0]
        if not node_refusal(group[0], wanted):
            well = (node for node in group if not health_refusal(node))
            free = [_open(room, node, wanted.resource) for node in well]
            found.setdefault(product, []).extend(free)
    return found


def _open(room: Room, node: Node, resource: str) -> int:
    """GPUs of a node that nobody holds and that are kept for nobody."""
    kept = sum(one.gpus for one in room.kept(node, resource))
    return max(0, room.free(node, resource) - kept)


def fewer_flash(room: Room, demand: Demand, flash: Sequence[Replica]) -> tuple[str, ...]:
    """The fewest of an object's own flash replicas on one node whose GPUs a replica needs."""
    by_node: dict[str, list[int]] = {}
    for one in flash:
        by_node.setdefault(one.node, []).append(one.gpus)
    hosts = (node for node in room.could_host(demand) if node.name in by_node)
    free = ((node.name, _open(room, node, demand.resource)) for node in hosts)
    counts = ((_victims(by_node[name], demand.gpus - already), name) for name, already in free)
    count, name = min(((count, name) for count, name in counts if count), default=(0, ""))
    return (f"{count} flash replica{'s' if count > 1 else ''} fewer on {name}",) if count else ()


def _victims(held: Sequence[int], missing: int) -> int:
    """How many of some replicas hold the missing GPUs, the largest first; 0: all do not."""
    gained = 0
    for count, gpus_held in enumerate(sorted(held, reverse=True), 1):
        gained += gpus_held
        if gained >= missing:
            return count
    return 0


def _helps(ask: Ask, wanted: Constraints, kinds: Kinds, possible: Possible) -> tuple[str, ...]:
    found = (_help(words, changed, wanted, kinds, possible) for words, changed in _changes(ask))
    return tuple(one for one in found if one)


def _help(words: str, changed: Ask, wanted: Constraints, kinds: Kinds, possible: Possible) -> str:
    options = fit(changed, wanted, kinds).options
    option = next((one for one in options if possible(one)), None)
    return words.format(option=option, length=option.max_model_len) if option else ""


def _changes(ask: Ask) -> Iterator[tuple[str, Ask]]:
    """Single changes of what is asked, from settings to another checkpoint."""
    if ask.videos:
        yield "multimodal.maxVideosPerRequest: 0", replace(ask, videos=0)
    if ask.sequences > 1:
        yield "context.fullLengthSequences: 1", replace(ask, sequences=1)
    if ask.max_model_len:
        yield "context.maxModelLen: {length} or less", replace(ask, max_model_len=0)
    if ask.kv_cache != AUTO:
        yield "context.kvCacheDType: Auto", replace(ask, kv_cache=AUTO)
    if ask.tensor or ask.pipeline:
        words = "parallelism.tensor: {option.tensor} and pipeline: {option.pipeline}"
        yield words, replace(ask, tensor=0, pipeline=0)
    for kind in _smaller(ask.form):
        words = f"a checkpoint in {kind} (tensor {{option.tensor}}, {{length}} tokens of context)"
        yield words, replace(ask, form=Format(kind))


def _smaller(form: Format) -> tuple[str, ...]:
    return {"BF16": ("FP8", "INT4"), "FP8": ("INT4",)}.get(form.kind, ())


@cache
def smallest_node(ask: Ask, resource: str) -> str:
    """The smallest node of known GPUs that holds a replica as asked; empty where none does."""
    kinds = [gpu for gpu in GPUS if gpu.resource == resource]
    found = (
        (gpu.memory_mib * count, count, gpu.name)
        for gpu in kinds
        for count in NODE_SIZES
        if _best(ask, gpu, count)
    )
    smallest = min(found, default=None)
    return f"{smallest[1]} x {smallest[2]}" if smallest else ""


def _best(ask: Ask, gpu: GPU, count: int) -> Option | None:
    """The best option on such a node, at the full length that is wanted."""
    node = Node("node", gpus.labels_of(gpu), allocatable={gpu.resource: count})
    options = fit(ask, Constraints(gpu.resource), [node]).options
    return next((one for one in options if one.max_model_len >= ask.full_length), None)
