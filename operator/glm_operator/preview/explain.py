"""The arithmetic behind a plan, one candidate at a time, so that it can be checked by hand.

Every figure comes from the catalogue's own functions; nothing is computed here a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from glm_operator import catalog
from glm_operator.catalog import Budget, Sharding
from glm_operator.catalog.memory import UTILIZATION_PERCENT
from glm_operator.catalog.parts import Part, stage_parts
from glm_operator.catalog.sharding import stage_layers
from glm_operator.manifests.arguments import MAX_BATCHED_TOKENS
from glm_operator.manifests.engine import EngineSpec
from glm_operator.plan.fit import shapes_of
from glm_operator.plan.observed import Node
from glm_operator.plan.resolve import Inputs
from glm_operator.plan.sizing import (
    Ask,
    Misfit,
    Option,
    Shape,
    budget_of,
    length_of,
    size,
)

NEAREST = 2
"""Rejected candidates that are explained."""
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of running a tier on one kind of node, and what came of it."""

    ask: Ask
    shape: Shape
    sharding: Sharding
    fp8_kv: bool
    found: Option | Misfit

    @property
    def budget(self) -> Budget:
        """The memory of each GPU."""
        return budget_of(self.ask, self.shape.gpu, self.sharding, self.fp8_kv)

    @property
    def stage(self) -> tuple[int, range]:
        """Number and layers of the pipeline stage that the budget is of."""
        budget = self.budget
        stages = stage_layers(self.ask.model.shapes.layers, self.sharding.pipeline)
        weights = catalog.stage_weight_bytes(self.ask.model, self.ask.form, self.sharding)
        whole = catalog.kv_bytes_per_token(self.ask.model, self.sharding.tensor, self.fp8_kv)
        layers = self.ask.model.shapes.layers
        return next(
            (index, stage)
            for index, stage in enumerate(stages)
            if weights[index] == budget.weights and len(stage) * whole == budget.per_token * layers
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The weights of the stage."""
        return stage_parts(self.ask.model, self.ask.form, self.sharding, self.stage[1])

    def describe(self) -> str:
        """The candidate in words."""
        cache = ", FP8 KV cache" if self.fp8_kv else ""
        return f"{self.sharding.describe()}{cache} on {self.shape.describe()}"

    def document(self) -> Json:
        """The arithmetic as plain data. The keys are documented in docs/plan.md."""
        budget, shapes = self.budget, self.ask.model.shapes
        return {
            "option": self.describe(),
            "taken": isinstance(self.found, Option),
            "reason": self.found.reason if isinstance(self.found, Misfit) else "",
            "message": self.found.message if isinstance(self.found, Misfit) else "",
            "reportedMiB": self.shape.gpu.memory_mib,
            "deviceBytes": self.shape.gpu.memory_bytes,
            "utilizationPercent": UTILIZATION_PERCENT,
            "usableBytes": budget.usable,
            "stages": self.sharding.pipeline,
            "stage": {"number": self.stage[0] + 1, "layers": len(self.stage[1])},
            "weights": [_weights(part, self.sharding.tensor) for part in self.parts],
            "weightBytes": budget.weights,
            "reserveBytes": budget.reserve,
            "cacheBytes": budget.cache,
            "kvHeadsPerGpu": max(1, -(-shapes.kv_heads // self.sharding.tensor)),
            "kvHeads": shapes.kv_heads,
            "headDim": shapes.head_dim,
            "kvElementBytes": 1 if self.fp8_kv else 2,
            "bytesPerToken": budget.per_token,
            "kvTokens": budget.tokens,
            "maxModelLen": length_of(self.ask, budget),
            "fullLengthSequencesWanted": self.ask.sequences,
        } | (_sizes(self.ask, self.found) if isinstance(self.found, Option) else {})


def _weights(part: Part, tensor: int) -> Json:
    return {
        "part": part.name,
        "parameters": part.parameters,
        "format": part.form,
        "scaleBytes": part.scale_bytes,
        "bytes": part.weight_bytes,
        "gpuBytes": part.gpu_bytes,
        "copiedBytes": 0 if part.whole else part.gpu_bytes - part.weight_bytes // tensor,
        "whole": part.whole,
    }


def _sizes(ask: Ask, option: Option) -> Json:
    return {
        "fullLengthSequences": option.full_length_sequences,
        "maxNumSeqs": option.max_num_seqs,
        "maxNumBatchedTokens": MAX_BATCHED_TOKENS,
        "imageTokens": ask.model.image_tokens,
    }


def candidates(
    inputs: Inputs, engine: EngineSpec | None, option: Option | None, nodes: Iterable[Node]
) -> tuple[Candidate, ...]:
    """What was taken, and the candidates that came nearest to having enough memory.

    Raises:
        glm_operator.catalog.CheckpointRefused: the tier cannot serve its checkpoint.
    """
    ask, nodes = inputs.ask, tuple(nodes)
    shapes = shapes_of(inputs.constraints, nodes)[0]
    misfits = sorted(_misfits(ask, shapes), key=lambda pair: pair[0])
    nearest = [one for _, one in misfits[:NEAREST]]
    return (*_taken(ask, engine, option, shapes), *nearest)


def _taken(
    ask: Ask, engine: EngineSpec | None, option: Option | None, shapes: Iterable[Shape]
) -> list[Candidate]:
    """The chosen candidate; none where nothing fits, or its kind of node is gone."""
    if engine is None or option is None:
        return []
    kinds = [
        shape
        for shape in shapes
        if (shape.gpu.product, shape.gpu.memory_bytes) == (option.gpu, option.gpu_bytes)
        and shape.gpus >= option.sharding.gpus
    ]
    return [Candidate(ask, kinds[0], option.sharding, option.fp8_kv_cache, option)] if kinds else []


def _misfits(ask: Ask, shapes: Iterable[Shape]) -> Iterator[tuple[tuple[int, int], Candidate]]:
    """Candidates that the GPUs of a node are enough for, and their memory is not."""
    for shape in shapes:
        for sharding in _shardings(ask, shape):
            fp8 = ask.kv_cache == "FP8"
            found = size(ask, shape, sharding, fp8)
            if isinstance(found, Misfit) and not catalog.refusal(ask.model, sharding):
                yield found.distance, Candidate(ask, shape, sharding, fp8, found)


def _shardings(ask: Ask, shape: Shape) -> list[Sharding]:
    tensors = [ask.tensor] if ask.tensor else catalog.legal_tensor(ask.model)
    every = (ask.sharding(tensor, ask.pipeline or 1) for tensor in tensors)
    return [one for one in every if one.gpus <= shape.gpus]
