"""The file that makes a folder a complete copy: written last, looked at first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from glm_serving.weights.files import MARKER, File

VERSION = 1


@dataclass(frozen=True, slots=True)
class Marker:
    """What a complete copy holds."""

    source: str
    commit: str
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files)

    def to_text(self) -> str:
        """The content of the file."""
        files = [asdict(file) for file in self.files]
        data = {"version": VERSION, "source": self.source, "commit": self.commit, "files": files}
        return json.dumps(data, indent=1) + "\n"


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder; None where there is none that can be used."""
    try:
        data = json.loads((folder / MARKER).read_text())
        if data["version"] != VERSION:
            return None
        files = tuple(File(**each) for each in data["files"])
        return Marker(data["source"], data["commit"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def complete(folder: Path) -> Marker | None:
    """The marker of a copy whose files all have their length; None: it must be fetched."""
    marker = read_marker(folder)
    return marker if marker and all(_as_long(folder, marker.files)) else None


def _as_long(folder: Path, files: Iterable[File]) -> Iterable[bool]:
    for file in files:
        path = folder / file.name
        yield path.is_file() and path.stat().st_size == file.bytes
