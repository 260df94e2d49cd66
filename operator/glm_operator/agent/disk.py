"""The node's disk. Every step goes by file descriptors and follows no link.

Jobs of a namespace may write in its folder, so whatever lies below it may be a trap for root: a
link, a folder a million levels deep, one that is being written while it is removed. Nothing is
trusted, and no step's cost in stack or descriptors depends on what lies there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from glm_operator.agent.decide import KINDS

FOLDER_MODE = 0o2770
"""The group writes, and what is made in it is the group's: the kubelet has nothing to change."""
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
MEASURED_DEPTH = 32
"""What lies deeper is not counted. Copies are 2 levels deep, compile caches about 12."""
ROUNDS = 10_000
"""A folder that so many levels deep is not empty is left for the next time."""


class Disk:
    """The folder of all copies on one node.

    Only folders that the agent made itself are its business, and it knows them by owner, group and
    mode: the folder may be one that holds other things too.

    Args:
        root: the folder; it is made where it is missing.
        group: the group of Jobs and engines; None stands for the process's own.
    """

    def __init__(self, root: Path, group: int | None = None) -> None:
        self.root = root
        self._group = os.getegid() if group is None else group
        root.mkdir(parents=True, exist_ok=True)

    def present(self) -> list[str]:
        """Folders of namespaces, and what lies in their folders of copies, relative to the root."""
        found: list[str] = []
        with _opened(self.root) as root:
            for namespace, place in self._namespaces(root):
                found.append(namespace)
                found.extend(f"{namespace}/{path}" for path in _copies(place))
        return found

    def make(self, namespace: str) -> None:
        """Make the folder of a namespace, for the group of Jobs and engines.

        Raises:
            OSError: it cannot be made, or something that the agent did not make is in its place.
        """
        path = self.root / namespace
        path.mkdir(mode=0o700, exist_ok=True)
        with _opened(path) as folder:
            if folder is None or os.listdir(folder):
                text = "it is there already and was not made by the node agent: move it away"
                raise FileExistsError(errno.EEXIST, text, str(path))
            os.fchown(folder, -1, self._group)
            os.fchmod(folder, FOLDER_MODE)

    def remove(self, path: str) -> None:
        """Remove a folder or file, relative to the root. One that is gone already is no error.

        Raises:
            OSError: it cannot be removed, or is being written to; the next time goes on.
        """
        *parents, name = path.split("/")
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_opened(self.root))
            for parent in parents:
                folder = stack.enter_context(_inside(parent, folder))
            if folder is not None:
                with contextlib.suppress(FileNotFoundError):
                    _remove(name, folder)

    def sizes(self) -> dict[str, int]:
        """Bytes on the disk by namespace."""
        with _opened(self.root) as root:
            return {namespace: _size(place) for namespace, place in self._namespaces(root)}

    def free_bytes(self) -> int:
        """Bytes that are free for the copies."""
        told = os.statvfs(self.root)
        return told.f_bavail * told.f_frsize

    def _namespaces(self, root: int | None) -> Iterator[tuple[str, int]]:
        """Folders that the agent made, each open."""
        for name in [] if root is None else sorted(os.listdir(root)):
            with _inside(name, root) as place:
                if place is not None and self._is_ours(os.fstat(place)):
                    yield name, place

    def _is_ours(self, told: os.stat_result) -> bool:
        mode = stat.S_IMODE(told.st_mode)
        return (told.st_uid, told.st_gid, mode) == (os.geteuid(), self._group, FOLDER_MODE)


@contextmanager
def _closing(descriptor: int | None) -> Iterator[int | None]:
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _opened(path: Path) -> AbstractContextManager[int | None]:
    """A folder's descriptor; None where there is no such folder, or a link in its place."""
    return _closing(_descriptor(str(path)))


def _inside(name: str, folder: int | None) -> AbstractContextManager[int | None]:
    """The same of a folder in another, which may not be there either."""
    return _closing(None if folder is None else _descriptor(name, folder))


def _descriptor(path: str, folder: int | None = None) -> int | None:
    try:
        return os.open(path, FLAGS, dir_fd=folder)
    except OSError:
        return None


def _copies(namespace: int) -> Iterator[str]:
    """What lies in the folders of copies of a namespace."""
    for kind in KINDS:
        with _inside(kind, namespace) as folder:
            if folder is not None:
                yield from (f"{kind}/{name}" for name in sorted(os.listdir(folder)))


def _remove(name: str, folder: int) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if not _is_folder(name, folder):
        os.unlink(name, dir_fd=folder)
        return
    with _inside(name, folder) as place:
        for _ in range(ROUNDS if place is not None else 0):
            names = os.listdir(place)
            if not names:
                break
            for one in names:
                _flatten(one, place)
    os.rmdir(name, dir_fd=folder)


def _flatten(name: str, folder: int | None) -> None:
    """Remove a file or folder; folders in it are moved up instead, so that depth needs no stack."""
    if not _is_folder(name, folder):
        os.unlink(name, dir_fd=folder)
        return
    with _inside(name, folder) as inner:
        for one in [] if inner is None else os.listdir(inner):
            if _is_folder(one, inner):
                os.rename(one, uuid.uuid4().hex, src_dir_fd=inner, dst_dir_fd=folder)
            else:
                os.unlink(one, dir_fd=inner)
    os.rmdir(name, dir_fd=folder)


def _is_folder(name: str, folder: int | None) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _size(folder: int, depth: int = MEASURED_DEPTH) -> int:
    """Bytes that the disk holds of what is in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            total += os.stat(name, dir_fd=folder, follow_symlinks=False).st_blocks * 512
        if depth:
            with _inside(name, folder) as inner:
                total += 0 if inner is None else _size(inner, depth - 1)
    return total
