"""What the agent makes and removes on its node's disk. Pure: paths are text, times are given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from glm_operator.manifests.weights import COMPILED, COPIES

FETCHING = "fetching"
"""Folder of partial copies; a fetch moves its copy to COPIES once it is complete."""
LOCK = ".lock"
KINDS = (COPIES, FETCHING, COMPILED)
"""Folders below that of a namespace. What else lies there is nobody's, and goes with the rest."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume of this node, as far as the agent looks at it."""

    path: str
    keep: tuple[str, ...] = ()
    """Folders below its path that its object needs."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done now. Paths are relative to the root of all copies."""

    make: tuple[str, ...] = ()
    """Folders of namespaces."""
    remove: tuple[str, ...] = ()
    since: Mapping[str, float] = field(default_factory=dict)
    """Since when each folder that nobody needs was not needed; to be given back the next time."""


def decide(
    root: str,
    volumes: Iterable[Volume],
    present: Iterable[str],
    since: Mapping[str, float],
    now: float,
    after: float,
) -> Work:
    """Compare what is wanted with what is there.

    Args:
        root: the folder of all copies.
        volumes: every volume of the node that exists; the list must be complete.
        present: what is on the disk: namespaces, and what lies in their folders.
        since: what the last decision returned.
        now: a clock that never goes back, in seconds.
        after: how long something must not have been needed before it is removed, in seconds.
    """
    wanted = _wanted(root, volumes)
    there = set(present)
    idle = {path: since.get(path, now) for path in there if not _is_wanted(path, wanted)}
    due = sorted(path for path, start in idle.items() if now - start >= after)
    return Work(
        make=tuple(sorted(namespace for namespace in wanted if namespace not in there)),
        remove=tuple(path for path in due if not _is_below_any(path, due)),
        since=idle,
    )


def _wanted(root: str, volumes: Iterable[Volume]) -> dict[str, set[str]]:
    """Namespace -> paths below its folder that are needed."""
    found: dict[str, set[str]] = {}
    for volume in volumes:
        namespace = volume.path.removeprefix(f"{root.rstrip('/')}/")
        if namespace != volume.path and NAME.fullmatch(namespace):
            found.setdefault(namespace, set()).update(_kept(volume.keep))
    return found


def _kept(keep: Iterable[str]) -> Iterator[str]:
    """What is kept, with the places in which it comes to be."""
    for path in keep:
        yield path
        kind, _, name = path.partition("/")
        if kind == COPIES:
            yield f"{FETCHING}/{name}"
            yield f"{FETCHING}/{name}{LOCK}"


def _is_wanted(path: str, wanted: Mapping[str, set[str]]) -> bool:
    namespace, _, below = path.partition("/")
    if not below:
        return namespace in wanted
    return below in wanted.get(namespace, ())


def _is_below_any(path: str, others: Iterable[str]) -> bool:
    """Whether a path goes with a folder above it."""
    return any(path.startswith(f"{one}/") for one in others)
