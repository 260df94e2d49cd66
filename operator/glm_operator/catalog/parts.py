"""The weights of a pipeline stage by part: what each GPU holds, and so that a person can check it.

What vLLM 0.32 cuts and what it keeps whole: models/glm4_moe.py, models/glm4.py, layers/linear.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from glm_operator.catalog import layers
from glm_operator.catalog.formats import BF16, Format
from glm_operator.catalog.layers import Linear
from glm_operator.catalog.models import Model, Shapes
from glm_operator.catalog.sharding import Sharding

FP32 = "FP32"
ROUTERS = "routers"
BIASES = "biases"
NORMS = "norms"
EMBEDDINGS = "embeddings and head"
VISION = "vision encoder"


@dataclass(frozen=True, slots=True)
class Part:
    """Some weights of one pipeline stage."""

    name: str
    parameters: int
    form: str
    """FP32, BF16, FP8 or INT4: how the GPU holds them."""
    weight_bytes: int
    """Before tensor parallelism cuts them, scales included."""
    gpu_bytes: int
    """On each GPU of the stage."""
    scale_bytes: int = 0
    whole: bool = False
    """Whether every GPU holds all of it, instead of a slice."""


def stage_parts(model: Model, form: Format, sharding: Sharding, stage: range) -> tuple[Part, ...]:
    """The weights of the layers of one stage; embeddings in the first, the head in the last.

    With --mm-encoder-tp-mode data, which the operator always sets, every GPU holds the encoder.
    """
    shapes = model.shapes
    ends = (stage.start == 0) + (stage.stop == shapes.layers)
    ending = _cut(EMBEDDINGS, ends * layers.embedding(shapes), sharding.tensor)
    seen = shapes.vision_parameters
    encoder = Part(VISION, seen, BF16, vision_bytes(model), vision_bytes(model), whole=True)
    return (
        *_merged(_matrices(shapes, form, sharding, stage)),
        *_small(shapes, sharding.tensor, stage),
        *([ending] if ends else []),
        *([encoder] if model.sees else []),
    )


def vision_bytes(model: Model) -> int:
    """Bytes of the vision encoder; it stays BF16 in every checkpoint."""
    return 2 * model.shapes.vision_parameters


def _matrices(shapes: Shapes, form: Format, sharding: Sharding, stage: range) -> Iterator[Part]:
    # Layers of a kind are alike, and there are two kinds at most.
    mixtures = sum(layers.is_mixture(shapes, layer) for layer in stage)
    kinds = ((stage.stop - 1, mixtures), (stage.start, len(stage) - mixtures))
    for layer, count in kinds:
        for one in layers.linears(shapes, layer) if count else ():
            stored = form.kind if form.is_small(one) else BF16
            each = form.weight_bytes(one), _held(one, form, sharding), form.scale_bytes(one)
            size, held, scales = (count * part for part in each)
            yield Part(one.part, count * one.parameters, stored, size, held, scales)


def _held(linear: Linear, form: Format, sharding: Sharding) -> int:
    """Bytes of a matrix on each GPU. Expert parallelism deals out routed experts as they are."""
    dealt = sharding.expert and linear.part == layers.ROUTED
    whole = 0 if dealt else form.whole_bytes(linear)
    return _piece(form.weight_bytes(linear) - whole, linear.pieces(sharding.tensor)) + whole


def _piece(size: int, pieces: int) -> int:
    return -(-size // pieces)


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
        sum(one.gpu_bytes for one in parts),
        sum(one.scale_bytes for one in parts),
    )


def _small(shapes: Shapes, tensor: int, stage: range) -> Iterator[Part]:
    """What is no matrix of a quantised kind. vLLM holds routers in FP32, whatever is stored."""
    routers = sum(layers.router(shapes, layer) for layer in stage)
    if routers:
        yield Part(ROUTERS, routers, FP32, 4 * routers, 4 * routers, whole=True)
    query = len(stage) * layers.query_biases(shapes)
    key_value = len(stage) * layers.key_value_biases(shapes)
    held = _piece(2 * query, tensor) + _piece(2 * key_value, min(tensor, shapes.kv_heads))
    yield Part(BIASES, query + key_value, BF16, 2 * (query + key_value), held)
    last = shapes.hidden if stage.stop == shapes.layers else 0
    norms = len(stage) * layers.norms(shapes) + last
    yield Part(NORMS, norms, BF16, 2 * norms, 2 * norms, whole=True)


def _cut(name: str, parameters: int, tensor: int) -> Part:
    return Part(name, parameters, BF16, 2 * parameters, _piece(2 * parameters, tensor))
