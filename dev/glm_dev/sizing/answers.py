"""The planner's answers in a few words."""

from __future__ import annotations

from glm_operator import catalog
from glm_operator.catalog import GPU, gpus
from glm_operator.plan.fit import Fit, fit
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints
from glm_operator.plan.sizing import Ask, Option

GPUS_PER_NODE = 8


def fit_on(preset: str, quantization: str, gpu: GPU, count: int = GPUS_PER_NODE) -> Fit:
    """What the planner makes of one node when nothing but the model is set."""
    node = Node("node", labels=gpus.labels_of(gpu), allocatable={gpu.resource: count})
    ask = Ask(catalog.get(preset), catalog.Format(quantization))
    return fit(ask, Constraints(gpu.resource), [node])


def cell(found: Fit) -> str:
    """GPUs of one replica, requests of full length at once, their length; a dash: nothing fits."""
    return in_words(found.options[0]) if found.options else "-"


def in_words(option: Option) -> str:
    """An option as a cell of a table."""
    stages = f" (tensor {option.tensor}, pipeline {option.pipeline})" if option.pipeline > 1 else ""
    cache = ", FP8 KV" if option.fp8_kv_cache else ""
    length = f"{option.full_length_sequences} x {option.max_model_len:,}"
    return f"{option.sharding.gpus} GPU{stages}: {length}{cache}"
