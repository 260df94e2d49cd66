"""Nodes: start, stop, and commands inside them."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path

from glm_dev.cluster import cgroups, control_plane, images, network, node_config, pki
from glm_dev.cluster.api import ApiClient, Json
from glm_dev.cluster.commands import run
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import ClusterPlan
from glm_dev.cluster.processes import end, first_child, read_record, spawn
from glm_dev.kubectl import wait_for

HERE = Path(__file__).parent
START_SECONDS = 10.0
STOP_SECONDS = 20.0
UNSHARE = (
    "unshare",
    "--pid",
    "--mount",
    "--net",
    "--uts",
    "--ipc",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
    "--propagation",
    "private",
)
RESOURCE = "nvidia.com/gpu"


def prepare(plan: ClusterPlan, index: int, seed: Path) -> None:
    """Lay out the node's disk and its cgroups."""
    folder = plan.node_folder(index)
    for name in ("lib", "log", "etc"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images.plant(seed, folder / "lib" / "containerd")
    pki.write_kubeconfig(plan, plan.node_name(index), folder / "etc" / "kubelet.conf")
    node_config.write_all(plan, index)


def start(plan: ClusterPlan, index: int) -> None:
    """Start the node's namespaces and plug it into the network; its kubelet waits for the API."""
    cgroups.create(cgroups.node_cgroup(plan, index))
    log = plan.folder("log") / f"{plan.node_name(index)}.log"
    environment = node_config.environment(plan, index, _device_plugin(plan, index))
    spawn(record_path(plan, index), log, [*UNSHARE, str(HERE / "node.sh")], environment)
    pid = wait_for("process 1 of a node", lambda: process_one(plan, index), START_SECONDS, 0.01)
    network.connect(plan, index, control_plane.namespace(plan), pid)


def allow_kubelet(plan: ClusterPlan, index: int) -> None:
    """Tell the node that the API server is ready."""
    (plan.node_folder(index) / "etc" / "api-ready").touch()


def is_ready_at(api: ApiClient, path: str, gpus: int, since: datetime) -> bool:
    """Whether the node at a path of the API is Ready; see is_ready."""
    node = api.get(path)
    return node is not None and is_ready(node, gpus, since)


def is_ready(node: Json, gpus: int, since: datetime) -> bool:
    """Whether a node said after `since` that it is Ready, and offers its GPUs.

    Right after a boot a node is Ready without GPUs, until its device plugin has registered.
    """
    status = node["status"]
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    ready = conditions.get("Ready", {"status": "Unknown"})
    if ready["status"] != "True" or datetime.fromisoformat(ready["lastHeartbeatTime"]) <= since:
        return False
    return int(status["allocatable"].get(RESOURCE, "0")) == gpus


def last_error(plan: ClusterPlan, index: int) -> str:
    """The last error in a kubelet's log, for the message of a node that does not get Ready."""
    log = plan.node_folder(index) / "log" / "kubelet.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith("E")]
    return errors[-1][:400] if errors else "none"


def stop(plan: ClusterPlan, index: int) -> None:
    """Lose the machine: everything on it ends at once, its disk stays."""
    record = read_record(record_path(plan, index))
    if record:
        end([record])
    cgroups.remove(cgroups.node_cgroup(plan, index))
    record_path(plan, index).unlink(missing_ok=True)


def record_path(plan: ClusterPlan, index: int) -> Path:
    """Where the node's outer process recorded itself."""
    return control_plane.record_path(plan, plan.node_name(index))


def process_one(plan: ClusterPlan, index: int) -> int | None:
    """The id, on the host, of the node's process 1; None while the node is down."""
    record = read_record(record_path(plan, index))
    return first_child(record.pid) if record and record.alive else None


def enter(plan: ClusterPlan, index: int) -> list[str]:
    """The words before a command that is to run inside the node.

    Raises:
        ClusterError: the node is down.
    """
    pid = process_one(plan, index)
    if pid is None:
        raise ClusterError(f"{plan.node_name(index)} of cluster {plan.name!r} is down.")
    return ["nsenter", "--target", str(pid), "--mount", "--net", "--pid", "--uts", "--ipc"]


def stop_kubelet(plan: ClusterPlan, index: int) -> None:
    """End the kubelet alone; its containers go on.

    Raises:
        ClusterError: it does not run.
    """
    pid = _kubelet(plan, index)
    if not pid:
        raise ClusterError(f"The kubelet of {plan.node_name(index)} does not run.")
    run(*enter(plan, index), "kill", pid)
    wait_for("the kubelet to end", lambda: not _kubelet(plan, index), STOP_SECONDS, 0.05)


def start_kubelet(plan: ClusterPlan, index: int) -> None:
    """Start the kubelet again after stop_kubelet.

    Raises:
        ClusterError: it runs.
    """
    if _kubelet(plan, index):
        raise ClusterError(f"The kubelet of {plan.node_name(index)} runs already.")
    script = str(plan.node_folder(index) / "etc" / "kubelet.sh")
    detached = 'exec setsid --fork sh "$0" >/dev/null 2>&1 </dev/null'
    run(*enter(plan, index), "sh", "-c", detached, script)


def _kubelet(plan: ClusterPlan, index: int) -> str:
    """The kubelet's process id inside the node; empty while it does not run."""
    script = 'pid=$(cat /run/kubelet.pid) && kill -0 "$pid" && echo "$pid" || true'
    return run(*enter(plan, index), "sh", "-c", script).strip()


def unhealthy_file(plan: ClusterPlan, index: int) -> Path:
    """Lists the node's broken GPUs, for its device plugin."""
    return plan.node_folder(index) / "etc" / "unhealthy-gpus"


def set_gpu_health(plan: ClusterPlan, index: int, gpu: int, healthy: bool) -> None:
    """Break or mend one GPU of a node.

    Raises:
        ClusterError: the node has no such GPU.
    """
    count = plan.nodes[index - 1].gpus
    if not 0 <= gpu < count:
        raise ClusterError(
            f"{plan.node_name(index)} has no GPU {gpu}: it has {count}, counted from 0."
        )
    file = unhealthy_file(plan, index)
    broken = set(file.read_text().split()) if file.exists() else set()
    broken = broken - {str(gpu)} if healthy else broken | {str(gpu)}
    partial = file.with_suffix(".new")
    partial.write_text(" ".join(sorted(broken)))
    partial.replace(file)


def _device_plugin(plan: ClusterPlan, index: int) -> str:
    count = str(plan.nodes[index - 1].gpus)
    unhealthy = str(unhealthy_file(plan, index))
    program = str(HERE / "device_plugin.py")
    return shlex.join([sys.executable, program, RESOURCE, count, unhealthy])
