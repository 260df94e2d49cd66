"""The weights of a pipeline stage by part, so that a person can check the sums by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from glm_operator.catalog import layers
from glm_operator.catalog.formats import BF16, Format
from glm_operator.catalog.memory import vision_bytes
from glm_operator.catalog.models import Model

SMALL = "routers, biases and norms"
EMBEDDINGS = "embeddings and head"
VISION = "vision encoder"


@dataclass(frozen=True, slots=True)
class Part:
    """Some weights of one pipeline stage, before tensor parallelism cuts them."""

    name: str
    parameters: int
    form: str
    """BF16, FP8 or INT4: how they are stored."""
    weight_bytes: int
    """Scales included."""
    scale_bytes: int = 0
    whole: bool = False
    """Whether every GPU holds all of it, instead of a slice."""


def stage_parts(model: Model, form: Format, stage: range) -> tuple[Part, ...]:
    """The weights of the layers of one stage; embeddings in the first, the head in the last.

    Their bytes, those that are not whole divided by the tensor parallel size, add up to the
    stage's entry of `stage_weight_bytes`.
    """
    ends = (stage.start == 0) + (stage.stop == model.shapes.layers)
    seen = [Part(VISION, model.shapes.vision_parameters, BF16, vision_bytes(model), whole=True)]
    return (
        *_merged(_matrices(model, form, stage)),
        _small(model, stage),
        *([_bf16(EMBEDDINGS, ends * layers.embedding(model.shapes))] if ends else []),
        *(seen if model.sees else []),
    )


def _matrices(model: Model, form: Format, stage: range) -> Iterator[Part]:
    for layer in stage:
        for one in layers.linears(model.shapes, layer):
            stored = form.kind if form.is_small(one) else BF16
            size, scales = form.weight_bytes(one), form.scale_bytes(one)
            yield Part(one.part, one.parameters, stored, size, scales)


def _merged(parts: Iterable[Part]) -> Iterator[Part]:
    """One part for each name and format, the largest first."""
    ordered = sorted(parts, key=_key)
    sums = [_sum(list(same)) for _, same in groupby(ordered, key=_key)]
    yield from sorted(sums, key=lambda one: -one.weight_bytes)


def _key(part: Part) -> tuple[str, str]:
    return part.name, part.form


def _sum(parts: list[Part]) -> Part:
    return Part(
        parts[0].name,
        sum(one.parameters for one in parts),
        parts[0].form,
        sum(one.weight_bytes for one in parts),
        sum(one.scale_bytes for one in parts),
    )


def _small(model: Model, stage: range) -> Part:
    shapes = model.shapes
    each = (
        layers.biases(shapes) + layers.norms(shapes) + layers.router(shapes, layer)
        for layer in stage
    )
    last = shapes.hidden if stage.stop == shapes.layers else 0
    return _bf16(SMALL, sum(each) + last)


def _bf16(name: str, parameters: int) -> Part:
    return Part(name, parameters, BF16, 2 * parameters)
