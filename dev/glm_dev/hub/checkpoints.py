"""Makes folders that hold a checkpoint: real files with tiny tensors, or hollow ones of any size.

No tensor library is needed: a safetensors file is a header and bytes. The bytes of a small
checkpoint are random, so that a changed one shows; those of a hollow one are a hole in the file,
which takes no room on the disk.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from glm_dev.hub.tensors import Spec, checkpoint_tensors

INDEX = "model.safetensors.index.json"
PREFIX_BYTES = 8
ALIGNMENT = 8
SHARD_BYTES = 5_000_000_000
"""As transformers cuts checkpoints."""
TOKENIZER: Mapping[str, Any] = {
    "tokenizer.json": {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []},
    },
    "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    "generation_config.json": {"eos_token_id": [0]},
    "preprocessor_config.json": {"image_processor_type": "Glm46VImageProcessor"},
}


def make_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    *,
    shard_bytes: int = SHARD_BYTES,
    hollow: bool = False,
    seed: int = 0,
) -> Path:
    """Write a whole checkpoint into `folder`, which is made; equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = list(_cut(checkpoint_tensors(config), shard_bytes))
    names = [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    chance = random.Random(seed)
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, None if hollow else chance)
    _write(folder / INDEX, index(dict(zip(names, shards, strict=True))))
    _write(folder / "config.json", config)
    for name, content in TOKENIZER.items():
        _write(folder / name, content)
    (folder / "chat_template.jinja").write_text("{{ messages }}\n")
    (folder / "README.md").write_text("# Made from nothing\n")
    return folder


def index(shards: Mapping[str, Sequence[Spec]]) -> dict[str, Any]:
    """The table of the tensors' files."""
    total = sum(spec.bytes for shard in shards.values() for spec in shard)
    where = {spec.name: name for name, shard in shards.items() for spec in shard}
    return {"metadata": {"total_size": total}, "weight_map": where}


def header(specs: Iterable[Spec]) -> bytes:
    """The beginning of a safetensors file that holds these tensors in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for spec in specs:
        start, end = end, end + spec.bytes
        entries[spec.name] = {
            "dtype": spec.dtype,
            "shape": spec.shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(PREFIX_BYTES, "little") + text


def write_safetensors(path: Path, specs: Sequence[Spec], chance: random.Random | None) -> None:
    """Write a file; without `chance` its tensors are a hole, which reads as zeros."""
    with path.open("wb") as file:
        file.write(header(specs))
        if chance is None:
            file.truncate(file.tell() + sum(spec.bytes for spec in specs))
            return
        for spec in specs:
            file.write(chance.randbytes(spec.bytes))


def _cut(specs: Iterable[Spec], most: int) -> Iterator[list[Spec]]:
    """Fill one shard after the other; a tensor is never cut."""
    shard: list[Spec] = []
    room = most
    for spec in specs:
        if shard and spec.bytes > room:
            yield shard
            shard, room = [], most
        shard.append(spec)
        room -= spec.bytes
    yield shard


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
