"""Which tensor parallel sizes a model can be split into, and why not the others.

The checks are those of vLLM 0.32: attention heads divide (config/model.py), key-value heads
divide or are replicated evenly (glm4_moe.py, glm4.py), the vocabulary divides
(vocab_parallel_embedding.py), and every split feed-forward layer keeps whole groups of its
quantisation (quantization/utils, kernels/linear/mixed_precision).
"""

from __future__ import annotations

from glm_operator.catalog.memory import INT4_GROUP
from glm_operator.catalog.models import Model

LARGEST_TENSOR = 32
"""No node we know of has more GPUs in one fast domain that these models could use."""


def head_refusal(model: Model, tensor: int) -> str:
    """Why the attention heads cannot be split over `tensor` GPUs, or an empty string."""
    heads, kv_heads = model.shapes.heads, model.shapes.kv_heads
    if heads % tensor:
        return f"{heads} attention heads do not divide by {tensor}"
    if kv_heads % tensor and tensor % kv_heads:
        return (
            f"{kv_heads} key-value heads can be neither divided nor replicated over {tensor} GPUs"
        )
    width = next((width for width in model.shapes.mlp_widths if width % tensor), 0)
    if width:
        return f"a layer {width} wide does not divide by {tensor}"
    words = model.shapes.vocabulary
    return f"a vocabulary of {words} does not divide by {tensor}" if words % tensor else ""


def legal_tensor(model: Model) -> tuple[int, ...]:
    """Every tensor parallel size the model can be split into, ascending."""
    sizes = range(1, LARGEST_TENSOR + 1)
    return tuple(size for size in sizes if not head_refusal(model, size))


def group_refusal(model: Model, quantization: str, tensor: int, group: int = INT4_GROUP) -> str:
    """Why a grouped checkpoint should not be split over `tensor` GPUs, or an empty string.

    A layer that the checkpoint leaves unquantised would not matter, but only its own
    configuration says so; hence a size refused here may still be asked for explicitly.
    """
    if quantization != "INT4" or tensor == 1:
        return ""
    cut = next((width for width in model.shapes.mlp_widths if width % (tensor * group)), 0)
    if not cut:
        return ""
    return f"INT4 groups of {group} weights do not divide a layer {cut} wide by {tensor}"


def automatic_tensor(model: Model, quantization: str) -> tuple[int, ...]:
    """The sizes that the planner may choose by itself, ascending."""
    return tuple(
        size for size in legal_tensor(model) if not group_refusal(model, quantization, size)
    )
