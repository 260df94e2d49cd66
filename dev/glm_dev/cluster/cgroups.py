"""The cgroups of a cluster's nodes: one tree for each, because a kubelet removes strangers in its.

Version 1 is what this was measured on. The version 2 path is written from the kernel's
documentation (Documentation/admin-guide/cgroup-v2.rst) and untested.
"""

from __future__ import annotations

import time
from pathlib import Path

from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import ClusterPlan

ROOT = Path("/sys/fs/cgroup")
VERSION_1 = (
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "blkio",
    "pids",
    "systemd",
)
VERSION_2 = ("cpu", "cpuset", "memory", "pids", "io")
REMOVE_SECONDS = 10.0


def is_version_2(root: Path = ROOT) -> bool:
    """Whether the machine has the unified hierarchy only."""
    return (root / "cgroup.controllers").exists()


def node_cgroup(plan: ClusterPlan, index: int) -> str:
    """The kubelet's cgroupRoot of a node."""
    return f"/{plan.tag}/{plan.node_name(index)}"


def create(path: str, root: Path = ROOT) -> None:
    """Make a cgroup and its parents, with every controller that a kubelet needs.

    Raises:
        ClusterError: the kernel refuses.
    """
    try:
        if is_version_2(root):
            _create_unified(path, root)
        else:
            _create_version_1(path, root)
    except OSError as error:
        raise ClusterError(
            f"The cgroup {path} cannot be made ({error}): the cluster needs the machine's own "
            "cgroups, not those of a container."
        ) from error


def _create_version_1(path: str, root: Path) -> None:
    for controller in VERSION_1:
        if (root / controller).is_dir():
            _create_below(root / controller, path, copy_cpuset=controller == "cpuset")


def _create_below(hierarchy: Path, path: str, copy_cpuset: bool) -> None:
    folder = hierarchy
    for name in path.strip("/").split("/"):
        parent, folder = folder, folder / name
        folder.mkdir(exist_ok=True)
        if copy_cpuset:
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((parent / file).read_text())


def _create_unified(path: str, root: Path) -> None:
    wanted = " ".join(f"+{controller}" for controller in VERSION_2)
    folder = root
    for name in path.strip("/").split("/"):
        (folder / "cgroup.subtree_control").write_text(wanted)
        folder = folder / name
        folder.mkdir(exist_ok=True)
    (folder / "cgroup.subtree_control").write_text(wanted)


def remaining(tag: str, root: Path = ROOT) -> list[Path]:
    """The folders of a cluster's cgroups, one for each hierarchy that has it."""
    places = [root / tag, *(hierarchy / tag for hierarchy in root.iterdir())]
    return [place for place in places if place.is_dir()]


def remove(path: str, root: Path = ROOT) -> None:
    """Remove a cgroup with all below it; its processes have been killed already.

    Raises:
        ClusterError: one of them is still in use after REMOVE_SECONDS.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    while places := remaining(path.strip("/"), root):
        stuck = [error for place in places if (error := _remove_tree(place))]
        if stuck and time.monotonic() > deadline:
            raise ClusterError(f"A cgroup cannot be removed: {stuck[0]}")
        if stuck:
            time.sleep(0.05)


def _remove_tree(folder: Path) -> OSError | None:
    below = sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True)
    for each in [*below, folder]:
        try:
            each.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            return error
    return None
