"""How a tier asks a node autoscaler for nodes, and what becomes of replicas that wait for one.

A pod that is pinned to a node never wakes a node autoscaler; one without a node does, and being
bound is its pin. Few such pods exist at a time, each for a limited time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from glm_operator.api import reasons
from glm_operator.api.enums import Mode
from glm_operator.api.tier import AnyTier
from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import NodeWish
from glm_operator.plan import times
from glm_operator.plan.actions import DeletePod
from glm_operator.plan.conditions import shorten
from glm_operator.plan.demand import Demand
from glm_operator.plan.hosting import Hosting
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.newnodes import Policy, can_come, policy_of, wish_of
from glm_operator.plan.observed import Observed, Replica
from glm_operator.plan.replicas import Fleet
from glm_operator.plan.rollout import Moves
from glm_operator.plan.room import Room


@dataclass(frozen=True, slots=True)
class Record:
    """How the last requests for nodes ended, as the status keeps it."""

    failures: int = 0
    """So often in a row no node came that can host a replica."""
    failed_at: float = 0.0
    message: str = ""
    """How the last one ended, as a sentence without its full stop."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Record:
        """From the stored status of a tier."""
        part: Mapping[str, Any] = stored.get("nodeRequests") or {}
        if not part.get("failures") or not part.get("failedAt"):
            return cls()
        failed_at = times.from_text(part["failedAt"])
        return cls(int(part["failures"]), failed_at, str(part.get("message", "")))

    def data(self, waiting: int) -> dict[str, Any]:
        """The part of the status, with the replicas that wait now."""
        found: dict[str, Any] = {"waiting": waiting, "failures": self.failures}
        if self.failures:
            found |= {"failedAt": times.to_text(self.failed_at), "message": self.message}
        return found


@dataclass(frozen=True, slots=True)
class Growth:
    """What becomes of the replicas that wait for nodes."""

    policy: Policy | None = None
    keep: tuple[Replica, ...] = ()
    """They go on waiting."""
    ask: int = 0
    """Replicas to make without a node."""
    short: int = 0
    """Replicas beyond these that lack room."""
    deletions: tuple[DeletePod, ...] = ()
    record: Record = Record()
    since: float | None = None
    """When the first that waits was made; None: none is made yet."""

    @property
    def waiting(self) -> int:
        """Replicas that wait for a node once this is carried out."""
        return len(self.keep) + self.ask

    @property
    def reason(self) -> str:
        """Of the catalogue; empty: this says nothing of why replicas are missing."""
        if self.waiting:
            return reasons.WAITING_FOR_NODES
        return reasons.NODES_DID_NOT_COME if self.short and self.record.failures else ""

    @property
    def retry_at(self) -> float | None:
        """When a node may be asked for again; None: nothing waits for that."""
        if self.policy is None or not self.record.failures or self.waiting or not self.short:
            return None
        return self.record.failed_at + self.policy.retry_seconds(self.record.failures)

    @property
    def wake_at(self) -> list[float]:
        """Times at which this must be looked at again though nothing may have happened."""
        if self.policy is None:
            return []
        ends = [one.created_at + self.policy.timeout_seconds for one in self.keep]
        return [*ends, *([self.retry_at] if self.retry_at is not None else [])]

    def sentence(self, *, planned: bool = False) -> str:
        """What is waited for, after the name of the tier; `planned`: nothing is really asked."""
        if self.policy is None or not self.waiting:
            return self._failure()
        asked = f"{_replicas(self.waiting)} for {_node(self.policy)}"
        limit = f"(at most {self.policy.at_most} at a time)"
        more = f", {_replicas(self.short)} more after that" if self.short else ""
        if planned:
            return f"would ask the node autoscaler with {asked} {limit}{more}"
        # Only what exists has a time: with that of a request that is refused, the status would be
        # another one in every pass, and be written for ever.
        since = f" since {times.to_text(self.since)}" if self.since is not None else ""
        before = f"; before that {self.record.message}" if self.record.failures else ""
        asks = f"asks the node autoscaler with {asked}{since} {limit}"
        return f"{asks}{more}{before}"

    def _failure(self) -> str:
        if self.retry_at is None:
            return ""
        return f"{self.record.message}; it is tried again at {times.to_text(self.retry_at)}"


SAID_LIMIT = 1024
"""Characters of the scheduler's words that are kept: with hundreds of taints there are thousands,
and the status has a limit. Kubernetes cuts the words of events at the same length."""
NO_GROWTH = Growth()
"""Of a tier that asks for nothing."""


class Grower:
    """What one tier asks a node autoscaler for.

    Args:
        spec: the tier as written.
        engine: what its new replicas are made of.
        revision: what its replicas are brought to.
        observed: everything the plan is made from.
        kinds: the nodes of the cluster.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        spec: AnyTier,
        engine: EngineSpec,
        revision: str,
        observed: Observed,
        kinds: Kinds,
        now: float,
    ) -> None:
        self._policy = policy_of(spec)
        self._spec, self._engine, self._revision = spec, engine, revision
        self._mode, self._nodes = observed.object.spec.mode, kinds
        self._record, self._now = _stored(engine.tier, observed), now

    def settle(self, found: Fleet, room: Room, demand: Demand) -> Fleet:
        """Sort the replicas out that new nodes have come for, or room on those that are there.

        The scheduler binds what waits as soon as there is room, so it counts as placed: a pinned
        replica in its stead would only race with it.
        """
        unfit = tuple(one for one in found.usable if self._why_unfit(one))
        placed: list[Replica] = []
        for one in self._in_time(found) if self._policy else ():
            if room.take(replace(demand, resources=None)) is None:
                break
            placed.append(one)
        usable = (*(one for one in found.usable if one not in unfit), *placed)
        waiting = tuple(one for one in found.waiting if one not in placed)
        return replace(found, usable=usable, waiting=waiting, unfit=unfit)

    def reach(self, found: Fleet, room: Room, demand: Demand) -> int:
        """How many replicas may wait for a node now."""
        policy, waiting = self._policy, len(found.waiting)
        if policy is None or not self._is_due(policy, self._record) or not self._can_come():
            return waiting
        return waiting + room.admitted(demand, max(0, policy.at_most - waiting))

    def grow(self, found: Fleet, moves: Moves, may_ask: int) -> Growth:
        """Which replicas go on waiting, which are withdrawn, and how many are made to wait.

        Args:
            found: the tier's replicas, sorted out.
            moves: what becomes of those that have room.
            may_ask: how many replicas may be made to wait, apart from what the object allows.
        """
        policy = self._policy
        record = self._record if self._mode is Mode.PLAN else self._renewed(found, moves.short)
        limit = min(moves.short, policy.at_most) if policy else 0
        keep = tuple(self._in_time(found)[:limit])
        ask = min(limit - len(keep), may_ask) if self._asks(found, moves, record) else 0
        return Growth(
            policy=policy,
            keep=keep,
            ask=ask,
            short=moves.short - len(keep) - ask,
            deletions=tuple(self._deletions(found, keep)),
            record=record,
            since=min((one.created_at for one in keep), default=None),
        )

    def wish(self) -> NodeWish:
        """Which node a replica without one should come to."""
        return wish_of(self._spec, self._engine, self._nodes)

    def _asks(self, found: Fleet, moves: Moves, record: Record) -> bool:
        """Whether this is a time to ask.

        Not while a replica is on its way to a node that is there: the scheduler might give that
        node to the one without.
        """
        settled = not moves.create and all(one.bound for one in found.usable)
        due = self._policy is not None and self._is_due(self._policy, record)
        return settled and due and self._mode is not Mode.PAUSED and self._can_come()

    def _can_come(self) -> bool:
        return can_come(self._spec, self._engine, self._nodes)

    def _is_due(self, policy: Policy, record: Record) -> bool:
        return self._now >= record.failed_at + policy.retry_seconds(record.failures)

    def _mine(self, found: Fleet) -> list[Replica]:
        """Replicas that may wait, the oldest first; paused, every revision is as good."""
        ordered = sorted(found.waiting, key=lambda one: (one.created_at, one.name))
        paused = self._mode is Mode.PAUSED
        return [one for one in ordered if paused or one.revision == self._revision]

    def _in_time(self, found: Fleet) -> list[Replica]:
        return [one for one in self._mine(found) if not self._is_overdue(one)]

    def _is_overdue(self, replica: Replica) -> bool:
        policy = self._policy
        return policy is not None and self._now >= replica.created_at + policy.timeout_seconds

    def _why_unfit(self, replica: Replica) -> str:
        """Why the GPUs of the node that came for a replica cannot hold it; empty: they may.

        Only by what the labels of the node tell, which may come later than its GPUs, and only
        while no engine has proved the contrary.
        """
        proved = replica.containers_ready or replica.verified is not None
        mine = replica.asks and replica.bound and replica.revision == self._revision
        if not mine or proved or self._mode is not Mode.LIVE:
            return ""
        labels = next((node.labels for node in self._nodes if node.name == replica.node), {})
        lack = Hosting(self._engine).lack(gpus.of_labels(labels, self._engine.resource))
        came = f"{replica.name} came to node {replica.node}, whose GPUs cannot hold it"
        return f"{came}: {lack}" if lack else ""

    def _renewed(self, found: Fleet, short: int) -> Record:
        """Failures in a row: forgotten when nothing is missing, or a node came after the last."""
        before, policy = self._record, self._policy
        if policy is None or not short:
            return Record()
        ended = [one for one in self._mine(found) if self._is_overdue(one)]
        fresh = [one for one in (*found.unfit, *ended) if one.created_at >= before.failed_at]
        if fresh:
            count = before.failures + 1
            in_a_row = f" ({count} times in a row)" if count > 1 else ""
            message = self._why_unfit(fresh[0]) or _message(fresh, policy)
            return Record(count, self._now, message + in_a_row)
        came = [one for one in found.usable if one.asks and one.bound]
        return Record() if any(one.created_at >= before.failed_at for one in came) else before

    def _deletions(self, found: Fleet, keep: Sequence[Replica]) -> Iterator[DeletePod]:
        for one in found.waiting:
            if one not in keep:
                late = self._is_overdue(one)
                why = "no node came for it in time" if late else "it need not wait for a node"
                yield DeletePod(one.name, one.uid, None, why)
        for one in found.unfit:
            yield DeletePod(one.name, one.uid, None, self._why_unfit(one))


def _stored(tier: str, observed: Observed) -> Record:
    """How the last requests ended; an edit of the object is a reason to try again."""
    if observed.status.get("observedGeneration") != observed.generation:
        return Record()
    tiers: Mapping[str, Any] = observed.status.get("tiers") or {}
    return Record.read(tiers.get(tier) or {})


def _message(waited: Sequence[Replica], policy: Policy) -> str:
    words = next((one.unschedulable for one in waited if one.unschedulable), "")
    said = f": {shorten(words.rstrip('.'), SAID_LIMIT)}" if words else ""
    within = f"within {policy.timeout_seconds:.0f} s for {_replicas(len(waited))}"
    return f"{_node(policy)} did not come {within}{said}"


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _node(policy: Policy) -> str:
    return f"a node of {policy.shape.replace('x', ' x ', 1)}" if policy.shape else "a node"
