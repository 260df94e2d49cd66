"""What would help a tier that fits no node of the cluster, the smallest change first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

from glm_operator.catalog import GPU, GPUS, Format, gpus
from glm_operator.plan.fit import fit
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints
from glm_operator.plan.sizing import AUTO, Ask, Option

NODE_SIZES = (1, 2, 4, 8)
"""GPUs of the nodes that are commonly sold."""


def helps(ask: Ask, wanted: Constraints, nodes: Iterable[Node]) -> tuple[str, ...]:
    """Changes of which each alone makes the tier fit, in words that follow "it would fit with"."""
    nodes = Kinds.of(nodes)
    found = (_help(words, changed, wanted, nodes) for words, changed in _changes(ask))
    changes = [one for one in found if one]
    shape = smallest_node(ask, wanted.resource)
    return (*changes, *([f"a node of {shape}"] if shape else []))


def _help(words: str, changed: Ask, wanted: Constraints, nodes: Kinds) -> str:
    options = fit(changed, wanted, nodes).options
    return words.format(option=options[0], length=options[0].max_model_len) if options else ""


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
