"""The clusters of this machine by name, and the removal of those that nobody needs any more."""

from __future__ import annotations

from pathlib import Path

from glm_dev.cluster import teardown
from glm_dev.cluster.binaries import Say
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.locks import exclusive
from glm_dev.cluster.plan import READY, ClusterPlan, load_plan, valid_name
from glm_dev.paths import cache_dir

LOCK_SECONDS = 120.0


def cluster_folder(name: str) -> Path:
    """Where a cluster keeps everything it has."""
    return cache_dir() / "clusters" / valid_name(name)


def existing() -> list[str]:
    """The names of the clusters on this machine, whole or not."""
    folder = cache_dir() / "clusters"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def lock_name(name: str) -> str:
    """What a command that changes a cluster locks."""
    return f"cluster {name!r}"


def find(name: str) -> ClusterPlan:
    """The plan of a cluster.

    Raises:
        ClusterError: there is none of that name.
    """
    plan = load_plan(cluster_folder(name))
    if plan is None:
        raise ClusterError(f"There is no cluster {name!r}: start it with `up --name {name}`.")
    return plan


def remove(name: str) -> None:
    """Remove a cluster with everything that it has on the machine; harmless if repeated."""
    with exclusive(lock_name(name), LOCK_SECONDS):
        _remove_locked(name)


def _remove_locked(name: str) -> None:
    directory = cluster_folder(name)
    plan = load_plan(directory)
    if plan is None:
        teardown.remove_folder(directory)
    else:
        teardown.remove(plan)


def remove_orphans(say: Say) -> None:
    """Remove temporary clusters whose process is gone."""
    for name in existing():
        if _is_orphan(name):
            with exclusive(lock_name(name), LOCK_SECONDS):
                # Somebody else may have removed it, and started another of that name.
                if _is_orphan(name):
                    say(f"Removing cluster {name!r}, which a killed command left")
                    _remove_locked(name)


def _is_orphan(name: str) -> bool:
    plan = load_plan(cluster_folder(name))
    return plan is not None and plan.owner is not None and not plan.owner.alive


def make_way(name: str, say: Say) -> None:
    """Remove what a killed command or a reboot left of a cluster; the caller holds its lock.

    Raises:
        ClusterError: the cluster runs.
    """
    plan = load_plan(cluster_folder(name))
    if plan is None:
        return
    alive = any(record.alive for record in teardown.processes(plan).values())
    if plan.phase == READY and alive:
        raise ClusterError(
            f"Cluster {name!r} is up already, with KUBECONFIG={plan.kubeconfig}: use it, take it "
            f"`down --name {name}`, or choose another --name."
        )
    say(f"Removing what is left of an earlier cluster {name!r}")
    _remove_locked(name)
