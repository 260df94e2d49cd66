"""The header of a safetensors file: which tensors it holds, and how long it must be.

Eight bytes with the header's length (little endian), the header as JSON, then the tensors' bytes:
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_serving.weights.errors import damaged

PREFIX_BYTES = 8
GUESSED_BYTES = 1 << 18
"""Most headers are shorter, and come with the first read."""
MAX_HEADER_BYTES = 100_000_000
"""As the safetensors library allows."""
MAX_DIMENSION = 1 << 31
UNUSABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

ReadRange = Callable[[int, int], bytes]
"""(start, length) -> bytes; fewer where the file ends before."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as the header tells it."""

    dtype: str
    shape: tuple[int, ...]
    end: int
    """Where its bytes end, counted from the end of the header."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """What one file holds."""

    tensors: Mapping[str, Tensor]
    start: int
    """Where the tensors' bytes begin in the file."""

    @property
    def file_bytes(self) -> int:
        """How long the file is when it is whole."""
        return self.start + max((tensor.end for tensor in self.tensors.values()), default=0)


def read_header(file: str, size: int, read: ReadRange) -> Header:
    """Read the header of a file of `size` bytes.

    Raises:
        WeightsError: FileDamaged, the header is none or promises another length than `size`.
    """
    first = read(0, min(size, GUESSED_BYTES))
    length = int.from_bytes(first[:PREFIX_BYTES], "little")
    if not 2 <= length <= min(size - PREFIX_BYTES, MAX_HEADER_BYTES):
        raise damaged(file, f"its {size} bytes do not begin with a safetensors header")
    start = PREFIX_BYTES + length
    text = first[PREFIX_BYTES:start]
    if len(text) < length:
        text += read(len(first), start - len(first))
    header = Header(_tensors(file, text), start)
    if header.file_bytes != size:
        raise damaged(file, f"it has {size} bytes and its header promises {header.file_bytes}")
    return header


def _tensors(file: str, text: bytes) -> dict[str, Tensor]:
    try:
        entries = json.loads(text).items()
        return {name: _tensor(entry) for name, entry in entries if name != "__metadata__"}
    except UNUSABLE as error:
        raise damaged(file, "its safetensors header is no valid JSON") from error


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    start, end = (int(number) for number in entry["data_offsets"])
    shape = tuple(int(number) for number in entry["shape"])
    if not 0 <= start <= end or not all(0 <= number < MAX_DIMENSION for number in shape):
        raise ValueError("a tensor has an impossible place or shape")
    return Tensor(str(entry["dtype"]), shape, end, end - start)
