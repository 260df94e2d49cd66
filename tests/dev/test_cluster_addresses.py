"""Which addresses a cluster takes, and which it leaves alone."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_dev.cluster.addresses import (
    BENCHMARK_RANGE,
    AddressPlan,
    free_plan,
    plan_addresses,
    require_free,
)
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.network import networks_of


def test_the_first_cluster_takes_the_lowest_part_of_the_benchmark_range() -> None:
    assert free_plan([], nodes=3).cidr == IPv4Network("198.18.0.0/19")


def test_the_next_cluster_takes_the_next_part() -> None:
    first = free_plan([], nodes=3)

    assert free_plan([first.cidr], nodes=3).cidr == IPv4Network("198.18.32.0/19")


def test_one_taken_address_is_enough_to_step_aside() -> None:
    taken = [IPv4Network("198.18.31.7/32")]

    assert free_plan(taken, nodes=3).cidr == IPv4Network("198.18.32.0/19")


def test_a_full_range_is_refused_with_the_way_out() -> None:
    with pytest.raises(ClusterError, match="take a cluster down, or give a private range"):
        free_plan([BENCHMARK_RANGE], nodes=1)


def test_many_nodes_get_a_bigger_part() -> None:
    assert free_plan([], nodes=16).cidr.prefixlen == 18


@given(nodes=st.integers(1, 100))
def test_machines_pods_and_services_never_share_an_address(nodes: int) -> None:
    plan = free_plan([], nodes)
    networks = [plan.machines, plan.services, *(plan.pods(i) for i in range(1, nodes + 1))]

    pairs = [(a, b) for i, a in enumerate(networks) for b in networks[:i]]
    assert not any(a.overlaps(b) for a, b in pairs)
    assert all(network.subnet_of(plan.cidr) for network in networks)


@given(nodes=st.integers(1, 100))
def test_every_machine_has_an_address_of_its_own_in_the_network(nodes: int) -> None:
    plan = free_plan([], nodes)
    machines = [plan.control_plane, plan.host, *(plan.node(i) for i in range(1, nodes + 1))]

    assert len(set(machines)) == len(machines)
    assert all(address in plan.machines for address in machines)


def test_kubernetes_default_is_the_first_service() -> None:
    assert str(plan_addresses("198.18.0.0/19", 1).api_service) == "198.18.16.1"


@pytest.mark.parametrize("text", ["198.18.0.0", "198.18.0.0/33", "198.18.0.7/19", "fd00::/64", "x"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match=r"no IPv4 range|too small"):
        plan_addresses(text, 1)


def test_public_addresses_are_refused() -> None:
    with pytest.raises(ClusterError, match="holds public addresses"):
        plan_addresses("8.8.0.0/16", 1)


def test_a_range_too_small_is_refused_with_the_one_that_does() -> None:
    with pytest.raises(ClusterError, match=r"too small for 16 nodes: use at least a /18"):
        plan_addresses("10.0.0.0/19", 16)


def test_a_range_in_use_is_refused_with_what_uses_it() -> None:
    plan = AddressPlan(IPv4Network("10.0.0.0/16"))

    with pytest.raises(ClusterError, match=r"already uses 10\.0\.3\.0/24"):
        require_free(plan, [IPv4Network("10.0.3.0/24")])


def test_routes_and_addresses_of_the_machine_count_as_taken_but_the_default_route_does_not() -> (
    None
):
    routes = [
        {"dst": "default"},
        {"dst": "192.168.1.0/24"},
        {"type": "unreachable", "dst": "10.1.2.3"},
    ]
    addresses = [{"ifname": "lo", "addr_info": [{"local": "10.9.8.7", "prefixlen": 16}]}, {}]

    assert [str(network) for network in networks_of(routes, addresses)] == [
        "10.1.2.3/32",
        "10.9.0.0/16",
        "192.168.1.0/24",
    ]
