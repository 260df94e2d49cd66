"""The addresses of one cluster, all inside one range that never leaves the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from glm_dev.cluster.errors import ClusterError

BENCHMARK_RANGE = IPv4Network("198.18.0.0/15")
"""Reserved for benchmarks (RFC 2544): no public host has these addresses."""
DEFAULT_PREFIX = 19
"""Room for 15 nodes; 16 such clusters fit in the benchmark range."""
SMALLEST_PREFIX = 20
_FIRST_NODE = 10


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """A range: one /24 for machines, a /24 for the pods of each node, the upper half Services."""

    cidr: IPv4Network

    @property
    def machines(self) -> IPv4Network:
        """The network that the control plane, the nodes and the host share."""
        return next(self._slices())

    @property
    def control_plane(self) -> IPv4Address:
        """The address of the API server, etcd and DNS."""
        return self.machines[1]

    @property
    def host(self) -> IPv4Address:
        """The address of the machine itself in the cluster's network."""
        return self.machines[2]

    @property
    def services(self) -> IPv4Network:
        """The range of ClusterIPs."""
        return list(self.cidr.subnets(1))[1]

    @property
    def api_service(self) -> IPv4Address:
        """ClusterIP of kubernetes.default, by definition the first one."""
        return self.services[1]

    @property
    def all_pods(self) -> IPv4Network:
        """A range that holds every pod (and the machines)."""
        return next(self.cidr.subnets(1))

    @property
    def most_nodes(self) -> int:
        """How many nodes have room."""
        return min(self.all_pods.num_addresses // 256 - 1, 254 - _FIRST_NODE)

    def node(self, index: int) -> IPv4Address:
        """The address of node `index`, counted from 1."""
        return self.machines[_FIRST_NODE + index]

    def pods(self, index: int) -> IPv4Network:
        """The pods of node `index`, counted from 1."""
        slices = self._slices()
        for _ in range(index):
            next(slices)
        return next(slices)

    def _slices(self) -> Iterator[IPv4Network]:
        return self.all_pods.subnets(new_prefix=24)


def plan_addresses(cidr: str, nodes: int) -> AddressPlan:
    """The plan for a range given by the user.

    Raises:
        ClusterError: it is no IPv4 range, too small for the nodes, or public.
    """
    try:
        network = IPv4Network(cidr)
    except ValueError as error:
        raise ClusterError(
            f"--cidr {cidr!r} is no IPv4 range ({error}); write it as 198.18.0.0/19."
        ) from error
    if network.is_global:
        raise ClusterError(
            f"--cidr {cidr} holds public addresses, which the cluster would hide: choose a range "
            f"inside {BENCHMARK_RANGE} or a private one."
        )
    if network.prefixlen > SMALLEST_PREFIX or AddressPlan(network).most_nodes < nodes:
        raise ClusterError(
            f"--cidr {cidr} is too small for {nodes} nodes: use at least a "
            f"/{smallest_prefix(nodes)}."
        )
    return AddressPlan(network)


def smallest_prefix(nodes: int) -> int:
    """The longest prefix with room for some nodes."""
    prefix = SMALLEST_PREFIX
    while AddressPlan(IPv4Network((0x0A000000, prefix))).most_nodes < nodes and prefix > 9:
        prefix -= 1
    return prefix


def free_plan(taken: Iterable[IPv4Network], nodes: int) -> AddressPlan:
    """The lowest part of the benchmark range that touches nothing taken.

    Raises:
        ClusterError: no part is free.
    """
    blocked = list(taken)
    for network in BENCHMARK_RANGE.subnets(new_prefix=min(DEFAULT_PREFIX, smallest_prefix(nodes))):
        if not any(network.overlaps(other) for other in blocked):
            return AddressPlan(network)
    raise ClusterError(
        f"Nothing of {BENCHMARK_RANGE} is free for {nodes} nodes: take a cluster down, or give a "
        "private range with --cidr."
    )


def require_free(plan: AddressPlan, taken: Iterable[IPv4Network]) -> None:
    """Refuse a range that the machine already uses.

    Raises:
        ClusterError: part of the range is an address or a route of the machine.
    """
    for other in taken:
        if plan.cidr.overlaps(other):
            raise ClusterError(
                f"This machine already uses {other}, which is part of {plan.cidr}: give another "
                "range with --cidr, or none to let one be chosen."
            )
