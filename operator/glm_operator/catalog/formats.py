"""Number formats of checkpoints: bytes of each matrix, and what may not be cut."""

from __future__ import annotations

from dataclasses import dataclass

from glm_operator.catalog.layers import Linear

BF16, FP8, INT4 = "BF16", "FP8", "INT4"
INT4_GROUP = 128
"""Weights that share one scale in an INT4 checkpoint (AWQ and GPTQ as usually published)."""

_FP8_SCALE_BYTES = 4
_INT4_SCALE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Format:
    """How a checkpoint stores the matrices of its layers.

    Embeddings, output head, vision, routers and norms stay BF16 in the checkpoints there are.
    """

    kind: str
    """BF16, FP8 or INT4."""
    group: int = 0
    """Weights that share one scale: in INT4 so many inputs (0: 128), in FP8 blocks of so many
    inputs and outputs (0: one scale for each output, "per channel")."""
    partly: tuple[tuple[str, int, int], ...] = ()
    """Parts of which a checkpoint leaves matrices as they are: name, matrices, and how many of them
    are stored small."""

    @property
    def block(self) -> int:
        """Inputs that share one scale; 0 where all inputs of an output do."""
        return self.group or (INT4_GROUP if self.kind == INT4 else 0)

    def describe(self) -> str:
        """The format in words."""
        if not self.block:
            return self.kind
        return f"{self.kind} in {'groups' if self.kind == INT4 else 'blocks'} of {self.block}"

    def is_small(self, linear: Linear) -> bool:
        """Whether a matrix is stored in this format; groups that do not divide it forbid it."""
        if self.kind == BF16 or not self._share(linear)[1]:
            return False
        return self.kind == FP8 or linear.inputs % self.block == 0

    def _share(self, linear: Linear) -> tuple[int, int]:
        """All matrices of the part of one, and those stored small; (1, 1): all of them."""
        found = ((every, small) for part, every, small in self.partly if part == linear.part)
        return next(found, (1, 1))

    def scale_bytes(self, linear: Linear) -> int:
        """Bytes of the scales of a matrix."""
        if not self.is_small(linear):
            return 0
        every, small = self._share(linear)
        blocks = -(-linear.inputs // self.block) if self.block else 1
        rows, each = linear.outputs, _INT4_SCALE_BYTES
        if self.kind == FP8:
            rows, each = -(-rows // self.block) if self.block else rows, _FP8_SCALE_BYTES
        return -(-small * linear.copies * rows * blocks * each // every)

    def weight_bytes(self, linear: Linear) -> int:
        """Bytes of a matrix, its scales included."""
        if not self.is_small(linear):
            return 2 * linear.parameters
        every, small = self._share(linear)
        weights = linear.parameters if self.kind == FP8 else -(-linear.parameters // 2)
        stored = small * weights + (every - small) * 2 * linear.parameters
        return -(-stored // every) + self.scale_bytes(linear)

    def whole_bytes(self, linear: Linear) -> int:
        """Bytes of a matrix that tensor parallelism leaves whole on every GPU.

        One scale for each output belongs to all inputs, so it cannot be cut along them.
        """
        per_output = self.kind == FP8 and not self.block
        return self.scale_bytes(linear) if per_output and linear.by_inputs else 0
