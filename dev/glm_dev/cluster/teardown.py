"""Removing a cluster, in whatever state a killed command or a reboot left it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from glm_dev.cluster import cgroups, network
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import RUN, ClusterPlan
from glm_dev.cluster.processes import Record, end, read_record

REMOVE_SECONDS = 30.0
ENDING = "run.ending"


def remove(plan: ClusterPlan) -> None:
    """Remove everything that a cluster has on the machine.

    The plan is on disk before anything else and goes last, so that this can be killed and
    repeated at any point.

    Raises:
        ClusterError: a process, cgroup or file cannot be removed.
    """
    end(_take_records(plan.directory))
    network.tear_down(plan)
    cgroups.remove(plan.tag)
    remove_folder(plan.directory)


def _take_records(directory: Path) -> list[Record]:
    """The records of all processes. Whoever has not recorded itself yet can no longer start."""
    run = directory / RUN
    if run.is_dir():
        run.rename(directory / f"{ENDING}-{os.getpid()}-{time.monotonic_ns()}")
    records = (read_record(path) for path in directory.glob(f"{ENDING}-*/*.pid"))
    return [record for record in records if record]


def processes(plan: ClusterPlan) -> dict[str, Record]:
    """The recorded processes by name, dead or alive."""
    paths = sorted((plan.directory / RUN).glob("*.pid"))
    return {path.stem: record for path in paths if (record := read_record(path))}


def remove_folder(folder: Path) -> None:
    """Remove a folder although a child of a killed command may still be writing into it.

    Raises:
        ClusterError: it is still there after REMOVE_SECONDS.
    """
    deadline = time.monotonic() + REMOVE_SECONDS
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists() and time.monotonic() > deadline:
            raise ClusterError(f"{folder} cannot be removed; look what still uses it.")
