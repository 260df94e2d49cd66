"""What the cluster's programs are told, and what a cluster remembers of itself."""

from __future__ import annotations

import itertools
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from glm_dev.cluster import control_plane, network, node_config, pki
from glm_dev.cluster.addresses import AddressPlan
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.images import seed_config
from glm_dev.cluster.plan import READY, ClusterPlan, load_plan, valid_name
from glm_dev.cluster.processes import Record
from glm_dev.cluster.shapes import parse_nodes


@pytest.fixture
def plan(tmp_path: Path) -> ClusterPlan:
    addresses = AddressPlan(IPv4Network("198.18.0.0/19"))
    return ClusterPlan("one", tmp_path, addresses, parse_nodes("1x8xH100-80GB,1x4xL4-24GB"))


def test_a_plan_read_back_is_the_same_plan(plan: ClusterPlan, tmp_path: Path) -> None:
    owned = ClusterPlan(
        plan.name, tmp_path, plan.addresses, plan.nodes, Path("/e"), READY, Record(1, 2, "boot")
    )
    owned.save()

    assert load_plan(tmp_path) == owned


def test_a_folder_without_a_plan_has_no_cluster(tmp_path: Path) -> None:
    assert load_plan(tmp_path) is None


def test_two_clusters_of_one_machine_share_no_link_and_no_cgroup(plan: ClusterPlan) -> None:
    other = ClusterPlan("two", plan.directory / "two", plan.addresses, plan.nodes)

    assert other.tag != plan.tag


def test_a_link_name_fits_into_the_kernels_fifteen_characters(plan: ClusterPlan) -> None:
    assert len(plan.tag) <= 15


@pytest.mark.parametrize("text", ["2", "node-2"])
def test_a_node_is_found_by_number_and_by_name(plan: ClusterPlan, text: str) -> None:
    assert plan.node_index(text) == 2


@pytest.mark.parametrize("text", ["0", "3", "node-", "two", "-1"])
def test_an_unknown_node_is_refused_with_the_known_ones(plan: ClusterPlan, text: str) -> None:
    with pytest.raises(ClusterError, match="it has node-1 to node-2"):
        plan.node_index(text)


@pytest.mark.parametrize("name", ["", "Big", "a_b", "../x", "-a", "a" * 33])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="cannot be called"):
        valid_name(name)


def test_every_program_of_the_control_plane_keeps_to_the_clusters_own_address(
    plan: ClusterPlan,
) -> None:
    commands = [
        control_plane.etcd(plan),
        control_plane.apiserver(plan),
        control_plane.controller_manager(plan),
        control_plane.scheduler(plan),
    ]
    words = list(itertools.chain(*commands))
    listening = [w for w in words if w.startswith(("--bind-address=", "--listen-"))]

    assert len(listening) == 5
    assert all(str(plan.addresses.control_plane) in word for word in listening)


def test_dns_forwards_nothing_out_of_the_cluster(plan: ClusterPlan) -> None:
    plugins = [line.split()[0] for line in control_plane.dns_config(plan).splitlines()]

    assert "kubernetes" in plugins
    assert "forward" not in plugins


def test_kubelets_of_two_nodes_have_cgroups_of_their_own(plan: ClusterPlan) -> None:
    roots = {node_config.kubelet_config(plan, index)["cgroupRoot"] for index in (1, 2)}

    assert roots == {f"/{plan.tag}/node-1", f"/{plan.tag}/node-2"}


def test_a_node_routes_to_the_pods_of_the_others_only(plan: ClusterPlan) -> None:
    told = node_config.environment(plan, 1, "plugin")

    assert told["POD_ROUTES"] == "198.18.2.0/24 198.18.0.12"


def test_a_node_without_gpus_runs_no_device_plugin(plan: ClusterPlan, tmp_path: Path) -> None:
    bare = ClusterPlan("bare", tmp_path, plan.addresses, parse_nodes("1xCPU"))

    assert node_config.environment(bare, 1, "plugin")["DEVICE_PLUGIN"] == ""
    assert node_config.environment(plan, 1, "plugin")["DEVICE_PLUGIN"] == "plugin"


def test_the_kubelet_labels_its_node_with_its_gpus(plan: ClusterPlan) -> None:
    script = node_config.kubelet_script(plan, 2)

    assert "nvidia.com/gpu.product=NVIDIA-L4,nvidia.com/gpu.memory=23034" in script


def test_only_a_cluster_with_an_engine_has_its_runtime(plan: ClusterPlan, tmp_path: Path) -> None:
    engine = ClusterPlan("e", tmp_path, plan.addresses, plan.nodes, Path("/engine"))
    runtimes = [
        tomllib.loads(node_config.containerd_config(each, tmp_path))["plugins"][
            "io.containerd.cri.v1.runtime"
        ]["containerd"]["runtimes"]
        for each in (plan, engine)
    ]

    assert set(runtimes[0]) == {"runc"}
    assert set(runtimes[1]) == {"runc", "glm-engine"}
    assert runtimes[1]["glm-engine"]["base_runtime_spec"] == str(tmp_path / "engine-spec.json")


def test_the_seeds_containerd_has_no_part_that_kubernetes_asks(tmp_path: Path) -> None:
    config = tomllib.loads(seed_config(tmp_path))

    assert "io.containerd.grpc.v1.cri" in config["disabled_plugins"]
    assert config["root"] == str(tmp_path)


def test_each_certificate_has_files_of_its_own(plan: ClusterPlan) -> None:
    names = [identity.name for identity in pki.identities(plan)]

    assert len(set(names)) == len(names)
    assert {"node-1", "node-2"} <= set(names)


def test_the_api_server_answers_to_the_address_that_pods_use(plan: ClusterPlan) -> None:
    api = next(each for each in pki.identities(plan) if each.name == "apiserver")

    assert f"IP:{plan.addresses.api_service}" in api.alternatives


def test_host_and_control_plane_reach_the_pods_of_every_node(plan: ClusterPlan) -> None:
    commands = [*network.host_commands(plan, 42), *network.bridge_commands(plan)]

    routes = [command for command in commands if command.startswith("route add")]
    assert routes == [
        f"route add 198.18.{index}.0/24 via 198.18.0.1{index} dev {link} onlink"
        for link in (plan.tag, network.BRIDGE)
        for index in (1, 2)
    ]
