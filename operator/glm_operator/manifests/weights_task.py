"""What one weights Job is asked to do: the identity of the Job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any, Self

COMMIT_LENGTH = 12
"""Characters of the commit in a folder's name."""


class TaskKind(StrEnum):
    """What a weights Job does."""

    READ = "Read"
    """Tell what the checkpoint is; nothing is copied."""
    FETCH = "Fetch"
    """Bring a verified copy to a volume."""
    CHECK = "Check"
    """Look whether a folder of a node holds a complete checkpoint."""


@dataclass(frozen=True, slots=True)
class WeightsTask:
    """One task. Tasks that are equal are one Job."""

    kind: TaskKind
    uri: str
    """As in the object: hf://, pvc:// or file://."""
    revision: str = ""
    """To read: as the user wrote it; to fetch: the commit."""
    node: str = ""
    """The node whose own volume is used; empty: any node."""
    node_uid: str = ""
    """Uid of that node, so that a node made anew under an old name counts as another."""
    secret: str = ""
    """Secret with the variables of the hub's client."""
    claim: str = ""
    """The user's claim that the copy goes to; empty: the node's own."""
    attempt: int = 0
    """Raised with each new try."""

    @property
    def identity(self) -> Self:
        """The task whatever was tried before, and with which Secret."""
        return replace(self, attempt=0, secret="")

    @property
    def key(self) -> str:
        """Name of the folder that holds the copy."""
        return checkpoint_key(self.uri, self.revision)

    def to_data(self) -> dict[str, Any]:
        """The JSON form kept on the Job."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_data` gave; raises ValueError, KeyError or TypeError on anything else."""
        wanted = {item.name: int if item.name == "attempt" else str for item in fields(cls)}
        if not isinstance(data, Mapping):
            raise TypeError("a task is no object")
        values = {name: value for name, value in data.items() if name in wanted}
        if not all(isinstance(value, wanted[name]) for name, value in values.items()):
            raise TypeError("a part of a task is of another type")
        return cls(**values | {"kind": TaskKind(data["kind"])})


def checkpoint_key(uri: str, commit: str) -> str:
    """Name of the folder that holds a commit of a repository of the hub."""
    return f"{uri.removeprefix('hf://').replace('/', '--')}--{commit[:COMMIT_LENGTH]}"
