"""What must be true of the machine before anything is started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from glm_dev import distribution
from glm_dev.cluster import cgroups
from glm_dev.cluster.binaries import Say
from glm_dev.cluster.commands import run
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import ClusterPlan
from glm_dev.paths import CACHE_VARIABLE, cache_dir

INSTEAD = "use `make demo KUBECONFIG=...` with any existing cluster, kind included"
PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "openssl": "openssl",
    "runc": "runc",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "hostname": "hostname",
}
"""Each program that is not built, and Debian's package that has it."""
CONTROL_PLANE_MIB, NODE_MIB = 800, 250
"""Resident memory, measured, with room; pods come on top."""
FREE_DISK_MIB = 2048
CONTROL_PLANE_WATCHERS, NODE_WATCHERS = 14, 10
"""inotify instances, measured, with one to spare each."""
INOTIFY = "anon_inode:inotify"
WATCHER_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
BRIDGE_FILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
PROBE_SECONDS = 30.0
NAMESPACES = ("unshare", "--pid", "--mount", "--net", "--uts", "--ipc", "--fork")
PROBES = {
    "namespaces with mounts": ("mount", "-t", "tmpfs", "tmpfs", "/run"),
    "network bridges": ("ip", "link", "add", "probe", "type", "bridge"),
    "virtual cables": ("ip", "link", "add", "probe", "type", "veth"),
    "nftables": ("nft", "add", "table", "ip", "probe"),
}
"""Tried in namespaces of their own, which take all of it with them."""
PACKAGE = Path(__file__).resolve().parents[1]
HIDDEN = (Path("/var/lib"), Path("/var/log"), Path("/run"))
"""Folders that a node replaces with its own."""


def check_machine(plan: ClusterPlan, say: Say) -> None:
    """Everything that a cluster of this plan needs, before anything is started.

    Raises:
        ClusterError: what is missing, and what to do about it.
    """
    require_host(say)
    require_engine(plan)
    require_visible(seen_by_nodes(plan.engine))
    available = available_mib(Path("/proc/meminfo").read_text())
    require_room(len(plan.nodes), available, free_disk_mib())
    require_watchers(len(plan.nodes), int(WATCHER_LIMIT.read_text()), watchers_in_use())


def require_host(say: Say) -> None:
    """What no build can bring: asked for first, so that nobody waits for builds in vain.

    Raises:
        ClusterError: not Linux, not root, a program that cannot be installed, or a kernel that
            refuses; the message says what to do.
    """
    require_linux_root()
    require_programs(say)
    require_kernel()


def require_linux_root() -> None:
    """Refuse a machine on which no cluster can run.

    Raises:
        ClusterError: with what to do instead.
    """
    if sys.platform != "linux":
        raise ClusterError(f"The local cluster needs Linux; on {sys.platform} {INSTEAD}.")
    if os.geteuid() != 0:
        raise ClusterError(
            "The local cluster needs root, for namespaces, mounts and a bridge: run the command "
            f"with sudo, or {INSTEAD}."
        )


def require_programs(say: Say) -> None:
    """Install what comes from the distribution, or ask for it.

    Raises:
        ClusterError: a program is missing and cannot be installed here.
    """
    try:
        distribution.require(PACKAGES, say)
    except distribution.DistributionError as error:
        raise ClusterError(str(error)) from error


def require_room(nodes: int, available: int, free: int) -> None:
    """Check the MiB of memory available and of disk free against what nodes take.

    Raises:
        ClusterError: there is less than the cluster itself takes.
    """
    needed = CONTROL_PLANE_MIB + nodes * NODE_MIB
    if available < needed:
        raise ClusterError(
            f"A cluster of {nodes} nodes takes about {needed} MiB of memory and {available} MiB "
            "are available: close something, or start fewer nodes with --nodes."
        )
    if free < FREE_DISK_MIB:
        raise ClusterError(
            f"The cache has {free} MiB of disk left and a cluster needs {FREE_DISK_MIB}: free "
            f"some, or set {CACHE_VARIABLE} to a folder on another disk."
        )


def free_disk_mib() -> int:
    """Free disk under the cache, in MiB."""
    return shutil.disk_usage(cache_dir()).free >> 20


def require_watchers(nodes: int, limit: int, used: int) -> None:
    """Check the file watchers (inotify instances) that root may have; kubelets need many.

    Raises:
        ClusterError: there are too few; a kubelet would hang without a word in its status.
    """
    needed = CONTROL_PLANE_WATCHERS + nodes * NODE_WATCHERS
    if limit - used < needed:
        raise ClusterError(
            f"A cluster of {nodes} nodes takes {needed} inotify instances and root has "
            f"{max(0, limit - used)} of {limit} left: run "
            f"`sysctl fs.inotify.max_user_instances={2 * limit}`, or take another cluster down."
        )


def watchers_in_use() -> int:
    """The inotify instances of root's processes."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            if folder.stat().st_uid == 0:
                count += sum(os.readlink(each) == INOTIFY for each in folder.iterdir())
        except OSError:
            continue  # it ended meanwhile
    return count


def available_mib(meminfo: str) -> int:
    """MemAvailable of /proc/meminfo, in MiB."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) >> 10


def seen_by_nodes(engine: Path | None) -> dict[Path, str]:
    """Every folder that nodes read, and how to have it elsewhere."""
    python = "use a Python that is installed elsewhere"
    engines = {engine: "copy the engine elsewhere"} if engine else {}
    return {
        cache_dir(): f"set {CACHE_VARIABLE} to a folder elsewhere",
        **engines,
        # The device plugin runs from the checkout, in the Python of this process.
        PACKAGE: "move the checkout elsewhere",
        Path(sys.prefix): python,
        Path(sys.base_prefix): python,
    }


def require_visible(folders: Mapping[Path, str]) -> None:
    """Refuse folders that a node could not see; each comes with the way out.

    Raises:
        ClusterError: a folder lies where nodes have a disk of their own.
    """
    for folder, way_out in folders.items():
        for hidden in HIDDEN:
            if folder.resolve().is_relative_to(hidden.resolve()):
                raise ClusterError(
                    f"{folder} lies below {hidden}, which every node replaces with its own: "
                    f"{way_out}."
                )


def require_engine(plan: ClusterPlan) -> None:
    """Check the engine's folder, if one was given.

    Raises:
        ClusterError: it does not hold an engine.
    """
    for name in ("root", "models") if plan.engine else ():
        if plan.engine and not (plan.engine / name).is_dir():
            raise ClusterError(f"--engine {plan.engine} has no folder {name!r}: it is no engine.")


def require_kernel() -> None:
    """Check that this root may do what a cluster does; in a container it often may not.

    Raises:
        ClusterError: the kernel refuses namespaces, cgroups, nftables or the bridge filter.
    """
    _load_modules()
    for what, command in PROBES.items():
        try:
            run(*NAMESPACES, *command)
        except ClusterError as error:
            raise ClusterError(f"This machine allows no {what} ({error}); {INSTEAD}.") from error
    if not os.access(cgroups.ROOT, os.W_OK) or not BRIDGE_FILTER.exists():
        lacking = "br_netfilter" if not BRIDGE_FILTER.exists() else "a writable /sys/fs/cgroup"
        raise ClusterError(f"The cluster needs {lacking}, which this machine lacks; {INSTEAD}.")


def _load_modules() -> None:
    if not BRIDGE_FILTER.exists() and shutil.which("modprobe"):
        subprocess.run(
            ["modprobe", "--all", "br_netfilter", "overlay", "nf_tables", "veth"],
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
