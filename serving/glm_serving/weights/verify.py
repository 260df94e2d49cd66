"""Compares a file with what the hub says of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from glm_serving.weights.errors import damaged
from glm_serving.weights.files import File


def verify(path: Path, file: File) -> None:
    """Compare length and checksum; a file of which the hub tells no checksum, by length alone.

    Raises:
        WeightsError: FileDamaged, it is another file than it should be.
    """
    found = path.stat().st_size
    if found != file.bytes:
        raise damaged(file.name, f"it has {found} bytes and should have {file.bytes}")
    if file.sha256 and (digest := _sha256(path)) != file.sha256:
        raise damaged(file.name, f"its SHA-256 is {digest} and should be {file.sha256}")
    if file.git_sha1 and (digest := _git_sha1(path)) != file.git_sha1:
        raise damaged(file.name, f"its Git checksum is {digest} and should be {file.git_sha1}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_sha1(path: Path) -> str:
    """Git's name of a blob: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
