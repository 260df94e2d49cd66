"""What a model is built of: its linear layers and their sizes, derived from its shapes.

Layer structure: vLLM 0.32 (models/glm4_moe.py, models/glm4.py, models/glm4_1v.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from glm_operator.catalog.models import Model, Shapes

ATTENTION = "attention"
DENSE = "dense layers"
ROUTED = "routed experts"
SHARED = "shared experts"


@dataclass(frozen=True, slots=True)
class Linear:
    """One matrix of a layer, or `copies` that are alike (one per expert)."""

    part: str
    name: str
    inputs: int
    outputs: int
    copies: int = 1
    by_inputs: bool = False
    """Whether tensor parallelism cuts it along its inputs (row parallel) or its outputs."""
    heads: int = 0
    """Key-value heads of its outputs, which are not cut: of more GPUs several hold the same head.
    0: it is cut over any number of GPUs."""

    @property
    def parameters(self) -> int:
        """Weights without biases."""
        return self.inputs * self.outputs * self.copies

    def pieces(self, tensor: int) -> int:
        """Into how many pieces tensor parallelism cuts it, of which each GPU holds one."""
        return min(tensor, self.heads) if self.heads else tensor

    def describe(self) -> str:
        """The matrix in words."""
        return f"the {self.name} of the {self.part}, {self.inputs} wide"


@cache
def linears(shapes: Shapes, layer: int) -> tuple[Linear, ...]:
    """The matrices of one layer that FP8 and INT4 checkpoints store small."""
    return (*_attention(shapes), *_feed_forward(shapes, layer))


def _attention(shapes: Shapes) -> Iterator[Linear]:
    queries, kept = shapes.heads * shapes.head_dim, shapes.kv_heads * shapes.head_dim
    yield Linear(ATTENTION, "query projection", shapes.hidden, queries)
    key_value = "key and value projection"
    yield Linear(ATTENTION, key_value, shapes.hidden, 2 * kept, heads=shapes.kv_heads)
    yield Linear(ATTENTION, "output projection", queries, shapes.hidden, by_inputs=True)


def _feed_forward(shapes: Shapes, layer: int) -> Iterator[Linear]:
    if not is_mixture(shapes, layer):
        yield from _gated(DENSE, shapes.hidden, shapes.dense_width, 1)
        return
    yield from _gated(ROUTED, shapes.hidden, shapes.expert_width, shapes.experts)
    if shapes.shared_experts:
        yield from _gated(SHARED, shapes.hidden, shapes.expert_width, shapes.shared_experts)


def _gated(part: str, hidden: int, width: int, copies: int) -> Iterator[Linear]:
    yield Linear(part, "gate and up projection", hidden, 2 * width, copies)
    yield Linear(part, "down projection", width, hidden, copies, by_inputs=True)


def is_mixture(shapes: Shapes, layer: int) -> bool:
    """Whether a layer has experts."""
    return shapes.experts > 0 and layer >= shapes.dense_layers


def query_biases(shapes: Shapes) -> int:
    """Biases of one layer's query projection."""
    return shapes.heads * shapes.head_dim


def key_value_biases(shapes: Shapes) -> int:
    """Biases of one layer's key and value projection, cut as it is."""
    return 2 * shapes.kv_heads * shapes.head_dim


def router(shapes: Shapes, layer: int) -> int:
    """Parameters with which one layer chooses its experts, the correction bias left out."""
    return shapes.experts * shapes.hidden if is_mixture(shapes, layer) else 0


def norms(shapes: Shapes) -> int:
    """Parameters of one layer's norms, those of queries and keys included."""
    return shapes.norms_per_layer * shapes.hidden + (2 * shapes.head_dim if shapes.qk_norm else 0)


def small(shapes: Shapes, layer: int) -> int:
    """Parameters of one layer that no checkpoint quantises: biases, norms and router."""
    biases = query_biases(shapes) + key_value_biases(shapes)
    return biases + norms(shapes) + router(shapes, layer)


def embedding(shapes: Shapes) -> int:
    """Parameters of the input embeddings, and as many of the output head: they are not tied."""
    return shapes.vocabulary * shapes.hidden


def parameters(model: Model) -> int:
    """All parameters that are loaded."""
    shapes = model.shapes
    text = sum(
        sum(one.parameters for one in linears(shapes, layer)) + small(shapes, layer)
        for layer in range(shapes.layers)
    )
    return text + 2 * embedding(shapes) + shapes.hidden + shapes.vision_parameters
