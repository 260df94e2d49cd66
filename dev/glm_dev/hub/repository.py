"""Folders as repositories of a hub: files with Git's and LFS' checksums, commits, branches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

LARGE = (".safetensors", "tokenizer.json")
"""Ends of names that .gitattributes of such repositories give to LFS."""
POINTER_BYTES = 135
DEFAULT_BRANCH = "main"


@dataclass(frozen=True)
class Blob:
    """One file at one commit."""

    name: str
    path: Path
    hashed: bool = True
    """Whether the SHA-256 is that of the bytes, or made up for a hollow file of any size."""

    @property
    def large(self) -> bool:
        """Whether it is kept in LFS, and known by its SHA-256."""
        return self.name.endswith(LARGE)

    @cached_property
    def size(self) -> int:
        """Bytes when it was published."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """Checksum of its bytes."""
        if not self.hashed:
            return hashlib.sha256(f"{self.name} {self.size}".encode()).hexdigest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def git_sha1(self) -> str:
        """Git's name of a blob with these bytes."""
        start = hashlib.sha1(f"blob {self.size}\0".encode())
        start.update(self.path.read_bytes())
        return start.hexdigest()

    @property
    def etag(self) -> str:
        """What the hub sends as ETag: the checksum that its store knows the file by."""
        return self.sha256 if self.large else self.git_sha1


@dataclass(frozen=True)
class Commit:
    """What a folder held when it was published."""

    blobs: Mapping[str, Blob]

    @cached_property
    def sha(self) -> str:
        """The commit's name: equal folders have equal ones."""
        lines = (f"{blob.etag} {name}" for name, blob in sorted(self.blobs.items()))
        return hashlib.sha1("\n".join(lines).encode()).hexdigest()


class Access(StrEnum):
    """Who may read a repository."""

    PUBLIC = "public"
    GATED = "gated"
    """Everybody sees that it is there; its files are for those who accepted the licence."""
    PRIVATE = "private"
    """Others are told that there is no such repository."""


@dataclass
class Repository:
    """A repository `organisation/name`."""

    name: str
    access: Access = Access.PUBLIC
    readers: frozenset[str] = frozenset()
    """Tokens of those who may read it, where it is not public."""
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    """Branch -> commit."""

    def publish(self, folder: Path, branch: str = DEFAULT_BRANCH, hashed: bool = True) -> Commit:
        """Make a commit of what the folder holds now; the bytes stay where they are.

        So another commit needs another folder, where the first is still to be fetched.
        """
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        names = [path.relative_to(folder).as_posix() for path in paths]
        commit = Commit({n: Blob(n, path, hashed) for n, path in zip(names, paths, strict=True)})
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit

    def find(self, revision: str) -> Commit | None:
        """The commit of a branch, or of the commit's own name, which may be shortened."""
        name = self.branches.get(revision, revision)
        found = [commit for sha, commit in self.commits.items() if sha.startswith(name)]
        return found[0] if len(found) == 1 and len(name) >= 7 else None

    def open_to(self, token: str) -> bool:
        """Whether the bearer may read the files."""
        return self.access is Access.PUBLIC or token in self.readers
