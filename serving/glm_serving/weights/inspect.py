"""Looks into a checkpoint wherever it is: is it whole, and what is it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from glm_serving.weights.errors import damaged, unreadable
from glm_serving.weights.facts import CONFIG, checkpoint_facts, parse_config
from glm_serving.weights.files import (
    INDEX,
    WEIGHTS,
    Checkpoint,
    File,
    parse_index,
    require_shards,
    require_whole,
)
from glm_serving.weights.safetensors import Header, read_header

READERS = 8
"""Headers that are read side by side: most of the time is waiting for the hub."""
MAX_JSON_BYTES = 256 << 20


def read_checkpoint(checkpoint: Checkpoint, commit: str) -> dict[str, Any]:
    """The facts of a checkpoint whose parts are all there and as long as they should be.

    Raises:
        WeightsError: a file is missing, cut, or cannot be understood; or the hub does not answer.
    """
    files = {file.name: file for file in checkpoint.files}
    require_whole(files, checkpoint.name)
    config = parse_config(_whole(checkpoint, files[CONFIG]))
    table = _table(checkpoint, files)
    headers = _headers(checkpoint, [files[name] for name in _shards(files, table)])
    _require_tensors(table, headers)
    sizes = {name: file.bytes for name, file in files.items()}
    return checkpoint_facts(config, headers, sizes, commit)


def _table(checkpoint: Checkpoint, files: Mapping[str, File]) -> dict[str, str]:
    """Tensor -> file of the index, whose files are all there; empty where there is no index."""
    if INDEX not in files:
        return {}
    table = parse_index(_whole(checkpoint, files[INDEX]))
    require_shards(files, table.values(), checkpoint.name)
    return table


def _shards(files: Mapping[str, File], table: Mapping[str, str]) -> list[str]:
    """Names of the files that hold weights: those of the index, or all where there is none."""
    return sorted(set(table.values())) or sorted(name for name in files if name.endswith(WEIGHTS))


def _headers(checkpoint: Checkpoint, files: Collection[File]) -> dict[str, Header]:
    def one(file: File) -> Header:
        return read_header(
            file.name, file.bytes, lambda start, length: checkpoint.read(file, start, length)
        )

    with ThreadPoolExecutor(READERS) as pool:
        return dict(zip((file.name for file in files), pool.map(one, files), strict=True))


def _whole(checkpoint: Checkpoint, file: File) -> bytes:
    if file.bytes > MAX_JSON_BYTES:
        raise unreadable(file.name, f"it has {file.bytes} bytes")
    return checkpoint.read(file, 0, file.bytes)


def _require_tensors(table: Mapping[str, str], headers: Mapping[str, Header]) -> None:
    for tensor, file in table.items():
        if tensor not in headers[file].tensors:
            raise damaged(file, f"the index says that it holds {tensor}, and it does not")
