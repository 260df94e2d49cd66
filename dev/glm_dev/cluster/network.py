"""The network of a cluster.

The control plane has a network namespace of its own, with a bridge that the nodes and the host
are plugged into. On the host remain one link and some routes: none of its ports is taken, and its
firewall does not see what nodes say to each other.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import IPv4Network
from typing import Any

from glm_dev.cluster.commands import ip_batch, run
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.plan import TAG_PREFIX, ClusterPlan

BRIDGE = "nodes"
BRIDGE_MAC = "02:67:6c:6d:00:01"
LOWEST_PRIORITY = 0xFF000000


def taken_networks() -> list[IPv4Network]:
    """Every IPv4 range this machine has an address in or a route to, but for the default."""
    routes = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all"))
    addresses = json.loads(run("ip", "-json", "-4", "address", "show"))
    return networks_of(routes, addresses)


def networks_of(
    routes: Sequence[dict[str, Any]], addresses: Sequence[dict[str, Any]]
) -> list[IPv4Network]:
    """The ranges in the output of `ip -json route` and `ip -json address`."""
    found = {IPv4Network(route["dst"]) for route in routes if route["dst"] != "default"}
    for link in addresses:
        for entry in link.get("addr_info", []):
            network = f"{entry['local']}/{entry['prefixlen']}"
            found.add(IPv4Network(network, strict=False))
    return sorted(found)


def claim(plan: ClusterPlan) -> None:
    """Take the range with a route that keeps its packets on the machine."""
    run("ip", "route", "add", *_fallback(plan))


def _fallback(plan: ClusterPlan) -> tuple[str, ...]:
    """Of the highest metrics, so that every real route wins; each cluster has one of its own."""
    metric = LOWEST_PRIORITY + int(plan.tag.removeprefix(TAG_PREFIX), 16)
    return ("unreachable", str(plan.addresses.cidr), "metric", str(metric))


def host_commands(plan: ClusterPlan, control_plane: int) -> list[str]:
    """What plugs the host into the cluster; `control_plane` is a process in that namespace."""
    link, addresses = plan.tag, plan.addresses
    return [
        f"link add {link} type veth peer name host netns {control_plane}",
        f"address add {addresses.host}/{addresses.machines.prefixlen} dev {link}",
        f"link set {link} up",
        *_routes_to_pods(plan, link),
    ]


def _routes_to_pods(plan: ClusterPlan, link: str) -> list[str]:
    ways = [(plan.addresses.pods(index), plan.addresses.node(index)) for index in plan.indexes]
    return [f"route add {pods} via {node} dev {link} onlink" for pods, node in ways]


def bridge_commands(plan: ClusterPlan) -> list[str]:
    """What makes the bridge in the control plane's namespace, after the host's commands."""
    addresses = plan.addresses
    return [
        "link set lo up",
        # A bridge without a MAC of its own takes one of its ports', and changes it when ports
        # come and go: nodes then hold a stale neighbour for up to a minute.
        f"link add {BRIDGE} address {BRIDGE_MAC} type bridge",
        f"address add {addresses.control_plane}/{addresses.machines.prefixlen} dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"link set host master {BRIDGE} up",
        *_routes_to_pods(plan, BRIDGE),
    ]


def set_up(plan: ClusterPlan, control_plane: int) -> None:
    """Make the bridge, the host's link and its routes."""
    ip_batch(host_commands(plan, control_plane))
    ip_batch(bridge_commands(plan), inside(control_plane))


def inside(process: int) -> list[str]:
    """The words before a command that is to run in a process's network namespace."""
    return ["nsenter", "--target", str(process), "--net"]


def connect(plan: ClusterPlan, index: int, control_plane: int, node: int) -> None:
    """Plug a node's network namespace into the bridge, instead of what it had before."""
    link = plan.node_name(index)
    within = inside(control_plane)
    _tolerate_missing(*within, "ip", "link", "delete", link)
    commands = [
        f"link add {link} type veth peer name eth0 netns {node}",
        f"link set {link} master {BRIDGE} up",
    ]
    ip_batch(commands, within)


def route_services(plan: ClusterPlan, index: int) -> None:
    """Send ClusterIPs from the host through the kube-proxy of a node."""
    services, node = plan.addresses.services, plan.addresses.node(index)
    ip_batch([f"route replace {services} via {node} dev {plan.tag} onlink"])


def tear_down(plan: ClusterPlan) -> None:
    """Remove the host's link with its routes, and the claim on the range."""
    _tolerate_missing("ip", "link", "delete", plan.tag)
    _tolerate_missing("ip", "route", "delete", *_fallback(plan))


def _tolerate_missing(*command: str) -> None:
    try:
        run(*command)
    except ClusterError as error:
        if "Cannot find device" not in str(error) and "No such process" not in str(error):
            raise
