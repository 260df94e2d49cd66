"""How a model may be spread over GPUs, and why not otherwise.

The checks are those of vLLM 0.32: attention heads divide (config/model.py), key-value heads
divide or are replicated evenly (glm4_moe.py, glm4.py), the vocabulary divides
(vocab_parallel_embedding.py), and what tensor parallelism cuts keeps whole groups or blocks of its
quantisation (quantization/utils/fp8_utils.py, kernels/linear/mixed_precision).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from glm_operator.catalog.formats import FP8, Format
from glm_operator.catalog.layers import ROUTED, Linear, linears
from glm_operator.catalog.models import Model

LARGEST_TENSOR = 32
"""No node we know of has more GPUs in one fast domain that these models could use."""
PIPELINES = (1, 2, 4, 8)
"""Pipeline sizes that an object may ask for."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """How one replica is spread over GPUs."""

    tensor: int = 1
    """GPUs that each layer is cut over."""
    pipeline: int = 1
    """Stages of layers, each on `tensor` GPUs of its own."""
    expert: bool = False
    """Whether whole experts are spread over the GPUs of a stage, instead of slices of each."""

    @property
    def gpus(self) -> int:
        """GPUs of one replica."""
        return self.tensor * self.pipeline

    def describe(self) -> str:
        """The sharding in words."""
        stages = f", pipeline {self.pipeline}" if self.pipeline > 1 else ""
        return f"tensor {self.tensor}{stages}"


def stage_layers(layers: int, pipeline: int) -> tuple[range, ...]:
    """The layers of each stage, as vLLM deals them out (distributed/utils.py, get_pp_indices).

    What is left over goes to the stages before the last one, from the back.
    """
    counts = [layers // pipeline] * pipeline
    for index in range(layers % pipeline):
        counts[pipeline - 2 - index] += 1
    starts = [sum(counts[:stage]) for stage in range(pipeline)]
    return tuple(range(start, start + count) for start, count in zip(starts, counts, strict=True))


@cache
def head_refusal(model: Model, tensor: int) -> str:
    """Why the layers cannot be cut over `tensor` GPUs whatever the format, or an empty string."""
    heads, kv_heads = model.shapes.heads, model.shapes.kv_heads
    if heads % tensor:
        return f"{heads} attention heads do not divide by {tensor}"
    if kv_heads % tensor and tensor % kv_heads:
        return (
            f"{kv_heads} key-value heads can be neither divided nor replicated over {tensor} GPUs"
        )
    width = next((one.inputs for one in _cut(model) if one.inputs % tensor), 0)
    if width:
        return f"a layer {width} wide does not divide by {tensor}"
    words = model.shapes.vocabulary
    return f"a vocabulary of {words} does not divide by {tensor}" if words % tensor else ""


def refusal(model: Model, sharding: Sharding) -> str:
    """Why vLLM does not start a model spread like this, or an empty string."""
    if sharding.expert and not model.is_mixture:
        return f"{model.preset} is dense and has no experts to spread"
    if sharding.pipeline > model.shapes.layers:
        return f"{model.shapes.layers} layers cannot make {sharding.pipeline} stages"
    return head_refusal(model, sharding.tensor)


@cache
def legal_tensor(model: Model) -> tuple[int, ...]:
    """Every tensor parallel size the model can be split into, ascending."""
    sizes = range(1, LARGEST_TENSOR + 1)
    return tuple(size for size in sizes if not head_refusal(model, size))


@cache
def group_refusal(model: Model, form: Format, sharding: Sharding) -> str:
    """Why the groups of a checkpoint forbid a sharding, or an empty string.

    Every matrix that the checkpoint stores in groups is tested. A checkpoint may leave one
    unquantised, but only its own configuration says so: hence a size refused here may still be
    asked for explicitly. The merged gate and up projection may be cut inside a block, except in
    routed experts. Expert parallelism keeps routed experts whole.
    """
    if not form.block or sharding.tensor == 1:
        return ""
    cut = next(_cuts(model, form, sharding), None)
    if cut is None:
        return ""
    return f"{form.describe()} do not divide {cut.describe()}, by {sharding.tensor}"


def _cuts(model: Model, form: Format, sharding: Sharding) -> Iterator[Linear]:
    """Matrices that a sharding would cut inside a group."""
    for linear in _cut(model, all_routed=form.kind == FP8):
        whole = sharding.expert and linear.part == ROUTED
        width = linear.inputs if linear.by_inputs else linear.outputs // 2
        if form.is_small(linear) and not whole and width % (sharding.tensor * form.block):
            yield linear


@cache
def _cut(model: Model, all_routed: bool = False) -> tuple[Linear, ...]:
    """Matrices that tensor parallelism cuts along their inputs, each kind once.

    `all_routed`: the gate and up projection of routed experts too, which is cut along its outputs.
    """
    shapes = model.shapes
    kinds = {one: None for layer in _kinds_of_layers(model) for one in linears(shapes, layer)}
    return tuple(one for one in kinds if one.by_inputs or (all_routed and one.part == ROUTED))


def _kinds_of_layers(model: Model) -> tuple[int, ...]:
    """One layer of each kind: the first, and the first with experts."""
    return (0, model.shapes.dense_layers) if model.is_mixture else (0,)
