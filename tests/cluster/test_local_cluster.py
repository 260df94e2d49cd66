"""The local cluster is a real one: what it offers, what can be broken, and what it leaves."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from glm_dev.cluster import (
    ClusterError,
    ClusterSpec,
    LocalCluster,
    binaries,
    images,
    nodes,
    registry,
)
from glm_dev.cluster.plan import READY, load_plan
from glm_dev.cluster.registry import cluster_folder
from glm_dev.kubectl import wait_for
from leftovers import leftovers

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

HELLO = "localhost/glm-dev/hello:1"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an image whose program tells its environment."""
    program = binaries.build(binaries.NODES).path("hello")
    target = tmp_path_factory.mktemp("images") / "hello.tar"
    return images.single_program_archive(program, HELLO, target)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as an engine's, with the same program in it."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "root" / "bin").mkdir(parents=True)
    (folder / "models").mkdir()
    program = binaries.build(binaries.NODES).path("hello")
    shutil.copy(program, folder / "root" / "bin" / "engine")
    return folder


@pytest.fixture(scope="module")
def cluster(hello: Path, engine: Path) -> Iterator[LocalCluster]:
    spec = ClusterSpec(
        name=f"local-{os.getpid()}",
        nodes="1x8xH100-80GB,1x4xL4-24GB",
        images=(hello,),
        engine=engine,
        temporary=True,
    )
    with LocalCluster.up(spec) as running:
        yield running


def hello_pod(**spec: Any) -> dict[str, Any]:
    """A pod that tells its environment on port 8080; `gpus` are asked for."""
    gpus = spec.pop("gpus", 0)
    container = {
        "name": "hello",
        "image": HELLO,
        "imagePullPolicy": "Never",
        "resources": {"limits": {"nvidia.com/gpu": gpus}},
        **spec.pop("container", {}),
    }
    name = f"hello-{next(_numbers)}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **spec},
    }


def start(cluster: LocalCluster, pod: dict[str, Any]) -> str:
    """Apply a pod in the default namespace and return its address once it runs."""
    name = pod["metadata"]["name"]
    cluster.kubectl.apply(pod, "default")

    def address() -> str:
        status = cluster.kubectl.get("pod", name, "default")["status"]
        return str(status.get("podIP", "")) if status["phase"] == "Running" else ""

    return wait_for(f"{name} to run", address, 40)


def ask(address: str, query: str = "") -> str:
    """What the pod at an address answers, once it listens."""

    def answer() -> str:
        try:
            with urllib.request.urlopen(f"http://{address}/{query}", timeout=3) as response:
                return str(response.read().decode())
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return ""

    return wait_for(f"an answer from {address}", answer, 20, 0.1)


def node(cluster: LocalCluster, index: int) -> dict[str, Any]:
    return cluster.kubectl.get("node", f"node-{index}")


def gpus(cluster: LocalCluster, index: int) -> int:
    return int(node(cluster, index)["status"]["allocatable"]["nvidia.com/gpu"])


def is_ready(cluster: LocalCluster, index: int) -> bool:
    conditions = node(cluster, index)["status"]["conditions"]
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def test_each_node_offers_the_gpus_of_its_shape(cluster: LocalCluster) -> None:
    assert [gpus(cluster, 1), gpus(cluster, 2)] == [8, 4]


def test_each_node_carries_the_labels_of_its_gpus(cluster: LocalCluster) -> None:
    for index, shape in enumerate(cluster.plan.nodes, 1):
        assert shape.labels().items() <= node(cluster, index)["metadata"]["labels"].items()


def test_each_node_pretends_the_size_of_its_shape(cluster: LocalCluster) -> None:
    capacity = node(cluster, 1)["status"]["capacity"]

    assert (capacity["cpu"], capacity["memory"]) == ("192", "2Ti")


def test_a_pod_is_reached_from_the_machine_and_told_its_gpus(cluster: LocalCluster) -> None:
    address = start(cluster, hello_pod(gpus=3))

    told = re.search(r"NVIDIA_VISIBLE_DEVICES=(.*)", ask(f"{address}:8080"))

    assert told
    assert len(set(told[1].split(","))) == 3


def test_a_pod_is_reached_through_a_service_and_finds_it_by_name(cluster: LocalCluster) -> None:
    pods = [hello_pod(nodeName=f"node-{index}") for index in (1, 2)]
    app = {"app": "served"}
    for pod in pods:
        pod["metadata"]["labels"] = app
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "served"},
        "spec": {"selector": app, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.kubectl.apply(service, "default")
    address, _ = [start(cluster, pod) for pod in pods]
    virtual = cluster.kubectl.get("service", "served", "default")["spec"]["clusterIP"]

    def both_answer() -> bool:
        answers = {re.search(r"HOSTNAME=(.*)", ask(virtual))[1] for _ in range(8)}  # type: ignore[index]
        return answers == {pod["metadata"]["name"] for pod in pods}

    assert wait_for("an answer from either pod", both_answer, 20)
    assert ask(f"{address}:8080", "?name=served.default.svc").strip() == virtual


def test_the_engines_runtime_brings_its_folder_into_the_pod(cluster: LocalCluster) -> None:
    container = {"command": ["/opt/vllm/bin/engine"]}
    address = start(cluster, hello_pod(runtimeClassName="glm-engine", container=container))

    assert "HOSTNAME=hello" in ask(f"{address}:8080")


def test_a_broken_gpu_is_offered_no_more_until_it_is_mended(cluster: LocalCluster) -> None:
    cluster.set_gpu_health("node-2", 3, healthy=False)
    assert wait_for("three GPUs", lambda: gpus(cluster, 2) == 3, 15, 0.1)

    cluster.set_gpu_health("node-2", 3, healthy=True)
    assert wait_for("four GPUs", lambda: gpus(cluster, 2) == 4, 15, 0.1)


def test_a_lost_machine_is_not_ready_and_comes_back_with_its_gpus(cluster: LocalCluster) -> None:
    cluster.node_down("node-2")
    assert wait_for("the loss", lambda: not is_ready(cluster, 2), 30, 0.2)

    cluster.node_up("node-2")
    assert is_ready(cluster, 2)
    assert gpus(cluster, 2) == 4


@pytest.mark.full
def test_services_answer_the_machine_when_the_first_node_is_lost(cluster: LocalCluster) -> None:
    virtual = cluster.kubectl.get("service", "kubernetes", "default")["spec"]["clusterIP"]
    cluster.node_down("1")
    try:
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(f"http://{virtual}:443/", timeout=10)
    finally:
        cluster.node_up("1")


@pytest.mark.full
def test_a_node_without_kubelet_keeps_its_pods(cluster: LocalCluster) -> None:
    address = start(cluster, hello_pod(nodeName="node-1"))
    cluster.stop_kubelet("node-1")
    assert wait_for("the silence", lambda: not is_ready(cluster, 1), 30, 0.2)

    assert "HOSTNAME=" in ask(f"{address}:8080")

    cluster.start_kubelet("node-1")
    assert wait_for("the kubelet", lambda: is_ready(cluster, 1) and gpus(cluster, 1) == 8, 30, 0.2)


def test_a_name_that_is_up_is_refused_with_its_kubeconfig(cluster: LocalCluster) -> None:
    with pytest.raises(ClusterError, match=f"up already, with KUBECONFIG={cluster.kubeconfig}"):
        LocalCluster.up(ClusterSpec(name=cluster.name))


def test_a_range_that_is_taken_is_refused(cluster: LocalCluster) -> None:
    cidr, name = str(cluster.plan.addresses.cidr), f"range-{os.getpid()}"

    with pytest.raises(ClusterError, match="give another range with --cidr"):
        LocalCluster.up(ClusterSpec(name=name, nodes="none", cidr=cidr))

    assert not cluster_folder(name).exists()


def test_a_node_has_no_way_out_of_the_machine(cluster: LocalCluster) -> None:
    inside = [*nodes.enter(cluster.plan, 1), "ip", "route", "get", "192.0.2.55"]

    found = subprocess.run(inside, capture_output=True, text=True, timeout=10, check=False)
    assert "No route to host" in found.stderr


def test_an_unused_address_of_the_range_is_unreachable(cluster: LocalCluster) -> None:
    unused = str(cluster.plan.addresses.all_pods[-2])

    with pytest.raises(OSError, match="No route to host"):
        socket.create_connection((unused, 80), timeout=10)


def test_dns_knows_no_name_outside(cluster: LocalCluster) -> None:
    address = start(cluster, hello_pod())

    with pytest.raises(urllib.error.HTTPError, match="502"):
        urllib.request.urlopen(f"http://{address}:8080/?name=example.com", timeout=20)


def test_a_control_plane_alone_serves_and_leaves_nothing(hello: Path) -> None:
    with LocalCluster.up(ClusterSpec(f"bare-{os.getpid()}", nodes="none", temporary=True)) as bare:
        assert "serviceaccount/default" in bare.kubectl.run(
            "get", "serviceaccount", "-n", "default", "-o", "name"
        )
        assert leftovers(bare.plan)

    assert leftovers(bare.plan) == []
    bare.down()


@pytest.mark.full
def test_two_clusters_stand_side_by_side(cluster: LocalCluster, hello: Path) -> None:
    spec = ClusterSpec(
        f"second-{os.getpid()}", nodes="1x1xT4-16GB", images=(hello,), temporary=True
    )
    mine = start(cluster, hello_pod(gpus=1))
    with LocalCluster.up(spec) as second:
        theirs = start(second, hello_pod(gpus=1))

        assert "GPU-node-1-" in ask(f"{theirs}:8080")
        assert not second.plan.addresses.cidr.overlaps(cluster.plan.addresses.cidr)

    assert "HOSTNAME=" in ask(f"{mine}:8080")
    assert leftovers(second.plan) == []
    assert is_ready(cluster, 1)


@pytest.mark.full
def test_nodes_without_a_machine_take_pods(cluster: LocalCluster) -> None:
    names = cluster.add_kwok_nodes(5, "8xH200-141GB")
    toleration = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}
    selector = {"nvidia.com/gpu.product": "NVIDIA-H200"}
    start(cluster, hello_pod(gpus=8, tolerations=[toleration], nodeSelector=selector))

    assert names == [f"kwok-{index}" for index in range(1, 6)]
    assert cluster.add_kwok_nodes(1, "CPU") == ["kwok-6"]


def etcd_started(folder: Path) -> bool:
    return (folder / "run" / "etcd.pid").exists()


def first_node_started(folder: Path) -> bool:
    return (folder / "run" / "node-1.pid").exists()


def controllers_started(folder: Path) -> bool:
    return (folder / "run" / "kube-scheduler.pid").exists()


def all_up(folder: Path) -> bool:
    plan = load_plan(folder)
    return plan is not None and plan.phase == READY


def start_and_kill(name: str, moment: Callable[[], bool], log: Path) -> None:
    """Start a cluster with a command of its own, and SIGKILL that command at a moment."""
    up = [sys.executable, "-m", "glm_dev.cluster", "up", "--name", name, "--nodes", "2x1xL4-24GB"]
    with log.open("wb") as output:
        command = subprocess.Popen(up, stdout=output, stderr=output)

    def reached() -> bool:
        assert command.poll() in (None, 0), log.read_text()
        return moment()

    try:
        wait_for("the moment", reached, 60, 0.01)
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait(10)


@pytest.mark.full
@pytest.mark.parametrize("moment", [etcd_started, first_node_started, controllers_started, all_up])
def test_nothing_is_left_after_the_starter_was_killed(
    moment: Callable[[Path], bool], tmp_path: Path
) -> None:
    name = f"killed-{os.getpid()}"
    folder = cluster_folder(name)
    try:
        start_and_kill(name, lambda: moment(folder), tmp_path / "log")
        plan = load_plan(folder)
        assert plan is not None
        assert leftovers(plan)
        for _ in range(2):
            down = [sys.executable, "-m", "glm_dev.cluster", "down", "--name", name]
            subprocess.run(down, check=True, timeout=60)

            # A child of the killed command may need an instant to see that all is gone.
            assert wait_for("nothing to be left", lambda: leftovers(plan) == [], 5, 0.1)
    finally:
        registry.remove(name)


@pytest.mark.full
def test_a_temporary_cluster_goes_with_the_next_start_after_its_process(tmp_path: Path) -> None:
    name = f"orphan-{os.getpid()}"
    script = (
        "import os, signal; from glm_dev.cluster import ClusterSpec, LocalCluster; "
        f"LocalCluster.up(ClusterSpec({name!r}, nodes='none', temporary=True)); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], timeout=90, check=False)
    plan = load_plan(cluster_folder(name))

    registry.remove_orphans(print)

    assert plan is not None
    assert leftovers(plan) == []


def test_an_archive_that_is_no_image_is_refused_and_nothing_starts(tmp_path: Path) -> None:
    archive, name = tmp_path / "broken.tar", f"broken-{os.getpid()}"
    archive.write_bytes(b"no archive")

    with pytest.raises(ClusterError, match=r"images import .*broken\.tar failed"):
        LocalCluster.up(ClusterSpec(name, nodes="1xCPU", images=(archive,)))

    assert not cluster_folder(name).exists()
