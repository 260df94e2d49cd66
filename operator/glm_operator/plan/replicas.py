"""What each replica is at present, and what may become of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from glm_operator.plan.observed import GatewayReport, Node, Replica
from glm_operator.plan.placement import FINISHED_PHASES
from glm_operator.plan.scaling import is_fresh

SILENT_GATEWAY_SECONDS = 5.0
"""How long a drain waits for a gateway that does not answer."""
RETRY_BASE_SECONDS = 10.0
RETRY_LIMIT_SECONDS = 300.0
LONG_LIFE_SECONDS = 600.0
"""A replica that lived this long did not fail because of how it was started."""
STUCK_SECONDS, STUCK_LIMIT_SECONDS = 15.0, 960.0
"""How long the scheduler may refuse a pinned replica before another node is tried: at first, and
at most; it doubles with each replica in a row."""


def is_verified(replica: Replica) -> bool:
    """The checks passed, on the very container that runs now."""
    same = replica.verified_container == replica.container_id
    return replica.verified is True and bool(replica.container_id) and same


def is_finished(replica: Replica) -> bool:
    """The pod ended and holds no GPU."""
    return replica.phase in FINISHED_PHASES


def is_waiting(replica: Replica) -> bool:
    """Whether a replica has no node and waits until a node autoscaler makes one."""
    return replica.asks and not replica.bound


def node_fault(replica: Replica, nodes: Mapping[str, Node]) -> str:
    """What is wrong with the node of a replica, or an empty string."""
    if not replica.node:
        return ""
    node = nodes.get(replica.node)
    if node is None:
        return "is gone"
    return "" if node.ready else "is not ready"


def stuck_at(replica: Replica) -> float | None:
    """When a pinned replica counts as stuck; None while the scheduler does not refuse it."""
    refused = bool(replica.node) and not replica.bound and bool(replica.unschedulable)
    since = replica.unschedulable_since
    patience = min(STUCK_LIMIT_SECONDS, STUCK_SECONDS * 2.0 ** min(replica.attempt, 10))
    return (replica.created_at if since is None else since) + patience if refused else None


def is_stuck(replica: Replica, now: float) -> bool:
    """Whether the scheduler has refused the replica's node for too long.

    The planner sees GPUs; the node may lack CPU or memory, or another scheduler was faster.
    """
    since = stuck_at(replica)
    return since is not None and now >= since


def can_serve(replica: Replica, nodes: Mapping[str, Node]) -> bool:
    """Whether requests sent to the replica would be answered, draining or not."""
    alive = not replica.terminating and not is_finished(replica)
    sound = alive and not node_fault(replica, nodes)
    return sound and replica.containers_ready and is_verified(replica)


def is_serving(replica: Replica, nodes: Mapping[str, Node]) -> bool:
    """Whether the gateway may route to the replica: the meaning of the `routable` label."""
    return replica.draining_since is None and can_serve(replica, nodes)


def needs_verification(replica: Replica, nodes: Mapping[str, Node]) -> bool:
    """The engine answers its health check and this container has not passed the tool calls."""
    if replica.terminating or is_finished(replica) or node_fault(replica, nodes):
        return False
    wanted = replica.draining_since is None and replica.containers_ready
    return wanted and not is_verified(replica)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas of one tier by what they are good for."""

    usable: tuple[Replica, ...]
    """On a sound node and not ended; serving, starting or draining."""
    lost: tuple[Replica, ...]
    """On a node that is gone or not ready."""
    stuck: tuple[Replica, ...]
    """Refused by the scheduler for long. Each holds its place, so its successor goes elsewhere."""
    failed: tuple[Replica, ...]
    terminating: tuple[Replica, ...]
    waiting: tuple[Replica, ...] = ()
    """Without a node, until a node autoscaler makes one; they hold no GPU."""
    unfit: tuple[Replica, ...] = ()
    """On a node that came for them and cannot host them."""

    @property
    def all(self) -> tuple[Replica, ...]:
        """Every pod of the tier."""
        return tuple(one for part in self._parts for one in part)

    @property
    def _parts(self) -> tuple[tuple[Replica, ...], ...]:
        sound = self.usable, self.lost, self.stuck
        return (*sound, self.failed, self.terminating, self.waiting, self.unfit)

    def of_revision(self, revision: str) -> Fleet:
        """The same pods as if all were of one revision."""
        parts = (tuple(replace(one, revision=revision) for one in part) for part in self._parts)
        return Fleet(*parts)


def fleet(replicas: Iterable[Replica], nodes: Mapping[str, Node], now: float) -> Fleet:
    """Sort the replicas of one tier; the order of the input does not matter."""
    ordered = sorted(replicas, key=lambda replica: replica.name)
    living = [one for one in ordered if not one.terminating and not is_finished(one)]
    alive = [one for one in living if not is_waiting(one)]
    sound = [one for one in alive if not node_fault(one, nodes)]
    leaving = {one.node for one in ordered if _is_leaving(one)}
    # What waits for the GPUs of a predecessor gets them when that one is gone.
    stuck = [one for one in sound if is_stuck(one, now) and one.node not in leaving]
    return Fleet(
        usable=tuple(one for one in sound if one not in stuck),
        lost=tuple(one for one in alive if node_fault(one, nodes)),
        stuck=tuple(stuck),
        failed=tuple(one for one in ordered if is_finished(one) and not one.terminating),
        terminating=tuple(one for one in ordered if one.terminating),
        waiting=tuple(one for one in living if is_waiting(one)),
    )


def _is_leaving(replica: Replica) -> bool:
    """Whether a replica will give back the GPUs that it holds."""
    told = replica.terminating or replica.draining_since is not None
    return told and not is_finished(replica)


def in_flight(replica: Replica, reports: Iterable[GatewayReport]) -> int:
    """Requests that the gateways last reported on a replica."""
    tiers = [report.tiers[replica.tier] for report in reports if replica.tier in report.tiers]
    return sum(tier.replicas.get(replica.name, 0) for tier in tiers)


def worth(
    replica: Replica, nodes: Mapping[str, Node], reports: Sequence[GatewayReport]
) -> tuple[bool, bool, int, float, str]:
    """Sort key, the most worth keeping first: serving, not draining, busy, old."""
    return (
        not can_serve(replica, nodes),
        replica.draining_since is not None,
        -in_flight(replica, reports),
        replica.created_at,
        replica.name,
    )


def is_drained(
    replica: Replica, reports: Sequence[GatewayReport], timeout_seconds: float, now: float
) -> bool:
    """Whether a replica taken out of routing may be deleted.

    Every gateway must have said, after the drain began, that it neither routes to the replica
    nor has a request on it. A silent gateway is waited for only shortly, a busy one until the
    time is up.
    """
    since = replica.draining_since
    if since is None:
        return False
    if now - since >= timeout_seconds:
        return True
    if not reports:
        return now - since >= SILENT_GATEWAY_SECONDS
    return all(_let_go(replica, report, since, now) for report in reports)


def _let_go(replica: Replica, report: GatewayReport, since: float, now: float) -> bool:
    silent_since = max(since, now - report.age_seconds)
    if not is_fresh(report):
        return now - silent_since >= SILENT_GATEWAY_SECONDS
    tier = report.tiers.get(replica.tier)
    told = now - report.age_seconds >= since
    if tier is None:
        return told
    return told and replica.name not in tier.routable and not tier.replicas.get(replica.name, 0)


def had_traffic(replica: Replica) -> bool:
    """Whether the gateway may ever have routed to the replica."""
    return replica.routable or replica.verified is True


def retry_delay(replica: Replica) -> float:
    """Seconds between the failure of a replica and its replacement: doubling, from the second."""
    attempt = failures_in_a_row(replica) - 1
    if attempt == 0:
        return 0.0
    return min(RETRY_LIMIT_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(attempt - 1, 10))


def failures_in_a_row(replica: Replica) -> int:
    """How many replicas failed in a row, this failed one included."""
    ended = replica.created_at if replica.failed_at is None else replica.failed_at
    long_life = ended - replica.created_at >= LONG_LIFE_SECONDS
    return 1 if long_life else replica.attempt + 1


def retry_at(replica: Replica) -> float:
    """When a failed replica may be replaced."""
    ended = replica.created_at if replica.failed_at is None else replica.failed_at
    return ended + retry_delay(replica)
