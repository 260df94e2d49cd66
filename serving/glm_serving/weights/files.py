"""Which files of a repository an engine needs, and which it cannot do without."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from glm_serving.weights.errors import missing, unreadable
from glm_serving.weights.facts import CONFIG

INDEX = "model.safetensors.index.json"
MARKER = ".glm-weights.json"
"""Written into a complete copy; never a file of the checkpoint."""
WEIGHTS = ".safetensors"
SUFFIXES = (WEIGHTS, ".json", ".jinja", ".txt", ".model", ".tiktoken")
"""What vLLM reads of a checkpoint; *.bin, *.pth and *.gguf are the same weights once more."""
CONSOLIDATED = "consolidated"
"""Beginning of files with all weights a second time, in another layout."""
TOKENIZERS = (
    frozenset({"tokenizer.json"}),
    frozenset({"tokenizer_config.json", "vocab.json", "merges.txt"}),
    frozenset({"tokenizer_config.json", "vocab.txt"}),
    frozenset({"tokenizer_config.json", "tokenizer.model"}),
)
"""Sets of files of which one must be there."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a checkpoint."""

    name: str
    """Path below the checkpoint, with slashes."""
    bytes: int
    sha256: str = ""
    """Checksum of its bytes, of a large file of the hub; empty: not known."""
    git_sha1: str = ""
    """Git's checksum of a small file of the hub; empty: not known."""


class Checkpoint(Protocol):
    """A checkpoint that can be looked into, on the hub or on a disk."""

    @property
    def name(self) -> str:
        """What to call it in a sentence."""

    @property
    def files(self) -> Collection[File]:
        """The files that an engine needs."""

    def read(self, file: File, start: int, length: int) -> bytes:
        """Some bytes of a file, fewer where it ends before."""


def needed(name: str) -> bool:
    """Whether an engine reads a file of this name: only the top folder, no weights twice."""
    return (
        "/" not in name
        and name != MARKER
        and name.endswith(SUFFIXES)
        and not name.startswith(CONSOLIDATED)
    )


def require_whole(names: Collection[str], where: str) -> None:
    """See that configuration, tokenizer and weights are there.

    Raises:
        WeightsError: FileMissing, with the name of the first that is not.
    """
    if CONFIG not in names:
        raise missing(CONFIG, where)
    if not any(required <= set(names) for required in TOKENIZERS):
        raise missing("tokenizer.json", where)
    if not any(name.endswith(WEIGHTS) for name in names):
        raise missing("*.safetensors", where)


def require_shards(names: Collection[str], shards: Iterable[str], where: str) -> None:
    """See that every file of the index is there. Raises WeightsError: FileMissing."""
    for shard in sorted(set(shards)):
        if shard not in names:
            raise missing(shard, where)


def parse_index(text: bytes) -> dict[str, str]:
    """Tensor -> file, of the index.

    Raises:
        WeightsError: CheckpointUnreadable.
    """
    try:
        table = json.loads(text)["weight_map"]
        return {str(tensor): str(file) for tensor, file in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(INDEX, "it has no `weight_map`") from error
