"""From a plan to a running cluster: claiming, starting in order, and waiting."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from glm_dev.cluster import (
    addresses,
    binaries,
    control_plane,
    images,
    network,
    nodes,
    pki,
    registry,
    teardown,
)
from glm_dev.cluster.api import ApiClient
from glm_dev.cluster.binaries import Say
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.locks import exclusive
from glm_dev.cluster.plan import ENGINE_HANDLER, READY, ClusterPlan
from glm_dev.cluster.processes import Record, read_record
from glm_dev.kubectl import WaitTimeout, wait_for
from glm_dev.paths import cache_dir

API_SECONDS, NODES_SECONDS = 60.0, 90.0
POLL_SECONDS = 0.1
EVER = datetime.min.replace(tzinfo=UTC)


def build(plan: ClusterPlan, archives: Sequence[Path], say: Say) -> Path | None:
    """Build every program; returns the disk with the images that nodes start from, if any."""
    if not plan.nodes:
        binaries.build(binaries.CONTROL_PLANE, say)
        return None
    binaries.build([*binaries.CONTROL_PLANE, *binaries.NODES], say)
    return images.seed(archives, say)


def claim(plan: ClusterPlan, cidr: str) -> ClusterPlan:
    """Take addresses: `cidr`, or without one a free part of the benchmark range.

    The plan is on disk before anything else, because it says what has to be removed.

    Raises:
        ClusterError: the range is taken, or none is free.
    """
    with exclusive("choosing addresses", registry.LOCK_SECONDS):
        taken = network.taken_networks()
        if cidr:
            addresses.require_free(plan.addresses, taken)
        else:
            plan = replace(plan, addresses=addresses.free_plan(taken, len(plan.nodes)))
        plan.directory.mkdir(parents=True, exist_ok=True)
        plan.save()
        try:
            network.claim(plan)
        except ClusterError:
            teardown.remove(plan)
            raise
    return plan


def start(plan: ClusterPlan, seed: Path | None) -> ClusterPlan:
    """Start everything, and return the plan once all of it is ready.

    Raises:
        ClusterError: something did not start; nothing of the cluster remains but its logs.
    """
    try:
        return _start(plan, seed)
    except ClusterError as error:
        logs = _keep_logs(plan)
        teardown.remove(plan)
        raise ClusterError(f"{error} The logs are in {logs}.") from error
    except BaseException:
        teardown.remove(plan)
        raise


def _start(plan: ClusterPlan, seed: Path | None) -> ClusterPlan:
    network.set_up(plan, control_plane.start_namespace(plan))
    pki.create_all(plan)
    pki.write_kubeconfig(plan, "admin", plan.kubeconfig)
    pki.write_kubeconfig(plan, "proxy", plan.folder("conf") / "proxy.conf")
    records = control_plane.start_storage(plan)
    if seed:
        _start_nodes(plan, seed)
    api = ApiClient(plan)
    _wait(plan, "the API server", records, api.ready, API_SECONDS)
    records += control_plane.start_controllers(plan, api)
    _create_runtime_class(plan, api)
    route_services(plan)
    wait_nodes(plan, list(plan.indexes))
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait(plan, "the ServiceAccount default", records, lambda: api.get(account), API_SECONDS)
    ready = plan.with_phase(READY)
    ready.save()
    return ready


def _start_nodes(plan: ClusterPlan, seed: Path) -> None:
    for index in plan.indexes:
        nodes.prepare(plan, index, seed)
        nodes.start(plan, index)


def _create_runtime_class(plan: ClusterPlan, api: ApiClient) -> None:
    if plan.engine:
        manifest = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": ENGINE_HANDLER},
            "handler": ENGINE_HANDLER,
        }
        api.create("/apis/node.k8s.io/v1/runtimeclasses", manifest)


def route_services(plan: ClusterPlan) -> None:
    """Let the host reach ClusterIPs, through the first node that runs."""
    running = [index for index in plan.indexes if nodes.process_one(plan, index)]
    if running:
        network.route_services(plan, running[0])


def wait_nodes(plan: ClusterPlan, indexes: Sequence[int], since: datetime = EVER) -> None:
    """Return when nodes have said, after `since`, that they are Ready with all their GPUs.

    Raises:
        ClusterError: one of them is not; the message has its kubelet's last error.
    """
    for index in indexes:
        nodes.allow_kubelet(plan, index)
    for index in indexes:
        record = read_record(nodes.record_path(plan, index))
        try:
            wait_node(plan, plan.node_name(index), plan.nodes[index - 1].gpus, record, since)
        except ClusterError as error:
            said = nodes.last_error(plan, index)
            raise ClusterError(f"{error} Its kubelet's last error: {said}") from error


def wait_node(
    plan: ClusterPlan, name: str, gpus: int, record: Record | None = None, since: datetime = EVER
) -> None:
    """Return when one node, real or not, is Ready with its GPUs.

    Raises:
        ClusterError: it is not within NODES_SECONDS, or its process ended.
    """
    probe = partial(nodes.is_ready_at, ApiClient(plan), f"/api/v1/nodes/{name}", gpus, since)
    _wait(plan, f"{name} to be Ready", [record] if record else [], probe, NODES_SECONDS)


def _wait(
    plan: ClusterPlan,
    what: str,
    records: Sequence[Record],
    probe: Callable[[], object],
    seconds: float,
) -> None:
    def checked() -> object:
        if not all(record.alive for record in records):
            raise ClusterError(f"A program ended while cluster {plan.name!r} waited for {what}.")
        return probe()

    try:
        wait_for(what, checked, seconds, POLL_SECONDS)
    except WaitTimeout as error:
        raise ClusterError(f"Cluster {plan.name!r} waited in vain for {error}.") from error


def _keep_logs(plan: ClusterPlan) -> Path:
    kept = cache_dir() / "logs" / plan.name
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(plan.folder("log"), kept)
    for index in plan.indexes:
        for file in (plan.node_folder(index) / "log").glob("*.log"):
            shutil.copy(file, kept / f"{plan.node_name(index)}-{file.name}")
    return kept
