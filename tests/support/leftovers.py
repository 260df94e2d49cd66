"""What a cluster has on this machine, found without asking the code that removes it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from glm_dev.cluster.plan import ClusterPlan

CGROUPS = Path("/sys/fs/cgroup")


def leftovers(plan: ClusterPlan) -> list[str]:
    """Every process, mount, link, route, cgroup and file of a cluster, in words."""
    return [
        *_processes(plan),
        *_mounts(plan),
        *_links(plan),
        *_routes(plan),
        *(f"cgroup {path}" for path in CGROUPS.glob(f"**/{plan.tag}")),
        *(f"file {path}" for path in [plan.directory] if path.exists()),
    ]


def _processes(plan: ClusterPlan) -> list[str]:
    """Those that have the cluster's folder in their words or their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if f"{plan.directory}/".encode() in said:
            found.append(f"process {folder.name}: {said[:200]!r}")
    return found


def _mounts(plan: ClusterPlan) -> list[str]:
    """In any mount namespace, of which each living process shows its own."""
    found = set()
    for mounts in Path("/proc").glob("[0-9]*/mounts"):
        try:
            lines = mounts.read_text().splitlines()
        except OSError:
            continue
        found |= {f"mount {line}" for line in lines if f"{plan.directory}/" in line}
    return sorted(found)


def _links(plan: ClusterPlan) -> list[str]:
    links = json.loads(_ip("link", "show"))
    return [f"link {link['ifname']}" for link in links if plan.tag in link["ifname"]]


def _routes(plan: ClusterPlan) -> list[str]:
    routes = json.loads(_ip("-4", "route", "show", "table", "all"))
    cidr = str(plan.addresses.cidr)
    return [f"route {r}" for r in routes if r["dst"] == cidr or r.get("dev") == plan.tag]


def _ip(*words: str) -> str:
    done = subprocess.run(
        ["ip", "-json", *words], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout
