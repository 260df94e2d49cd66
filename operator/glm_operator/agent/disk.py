"""The node's disk. Every step goes by file descriptors and follows no link.

Jobs of a namespace may write in its folder, so whatever lies below it may be a trap for root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glm_operator.agent.decide import KINDS

FOLDER_MODE = 0o2770
"""The group writes, and what is made in it is the group's: the kubelet has nothing to change."""
FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Disk:
    """The folder of all copies on one node.

    Args:
        root: the folder; it is made where it is missing.
        group: the group of Jobs and engines; None leaves the process's own.
    """

    def __init__(self, root: Path, group: int | None = None) -> None:
        self.root = root
        self._group = group
        root.mkdir(parents=True, exist_ok=True)

    def present(self) -> list[str]:
        """Folders of namespaces, and what lies in their folders of copies, relative to the root."""
        found: list[str] = []
        with _opened(str(self.root)) as root:
            for namespace in _names(root):
                found.append(namespace)
                with _opened(namespace, root) as place:
                    found.extend(f"{namespace}/{path}" for path in _copies(place))
        return found

    def make(self, namespace: str) -> None:
        """Make the folder of a namespace, for the group of Jobs and engines."""
        path = self.root / namespace
        path.mkdir(exist_ok=True)
        if self._group is not None:
            os.chown(path, -1, self._group)
        path.chmod(FOLDER_MODE)

    def remove(self, path: str) -> None:
        """Remove a folder or file, relative to the root. One that is gone already is no error."""
        *parents, name = path.split("/")
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(_opened(str(self.root)))
            for parent in parents:
                if folder is None:
                    return
                folder = stack.enter_context(_opened(parent, folder))
            if folder is not None:
                _remove(name, folder)

    def sizes(self) -> dict[str, int]:
        """Bytes on the disk by namespace."""
        with _opened(str(self.root)) as root:
            return {name: _size(name, root) for name in _names(root)}

    def free_bytes(self) -> int:
        """Bytes that are free for the copies."""
        told = os.statvfs(self.root)
        return told.f_bavail * told.f_frsize


@contextmanager
def _opened(path: str, below: int | None = None) -> Iterator[int | None]:
    """A folder's descriptor; None where there is no such folder, or a link in its place."""
    try:
        found = os.open(path, FLAGS, dir_fd=below)
    except OSError:
        found = None
    try:
        yield found
    finally:
        if found is not None:
            os.close(found)


def _copies(namespace: int | None) -> Iterator[str]:
    """What lies in the folders of copies of a namespace."""
    for kind in KINDS if namespace is not None else ():
        with _opened(kind, namespace) as folder:
            yield from (f"{kind}/{name}" for name in _names(folder))


def _names(folder: int | None) -> list[str]:
    return [] if folder is None else sorted(os.listdir(folder))


def _remove(name: str, folder: int) -> None:
    try:
        shutil.rmtree(name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError:
        # A file, or a link: rmtree takes neither.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def _size(name: str, folder: int | None) -> int:
    total = 0
    if folder is None:
        return 0
    for _, _, files, place in os.fwalk(name, dir_fd=folder, follow_symlinks=False):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(file, dir_fd=place, follow_symlinks=False).st_blocks * 512
    return total
