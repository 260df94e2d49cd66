"""A checkpoint in a folder of this machine."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path

from glm_serving.weights import reasons
from glm_serving.weights.errors import WeightsError
from glm_serving.weights.files import File, needed


class Folder:
    """A folder that should hold a checkpoint.

    Raises:
        WeightsError: CheckpointNotFound, there is no such folder.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise WeightsError(
                reasons.CHECKPOINT_NOT_FOUND,
                f"There is no folder {path}: correct the path in model.uri.",
            )
        self.path = path

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.path)

    @cached_property
    def files(self) -> tuple[File, ...]:
        """The files that an engine needs, as they are now."""
        found = sorted(path for path in self.path.iterdir() if path.is_file())
        return tuple(File(path.name, path.stat().st_size) for path in found if needed(path.name))

    def read(self, file: File, start: int, length: int) -> bytes:
        """Some bytes of a file, fewer where it ends before."""
        with (self.path / file.name).open("rb") as opened:
            opened.seek(start, os.SEEK_SET)
            return opened.read(length)
