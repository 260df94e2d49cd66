"""How many flash replicas there should be: the first law, on requests in flight and held.

Pure: the same function runs in the operator, in tests and in simulations. A later law replaces
`_needed` behind the same interface.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from glm_operator.plan.observed import GatewayReport, GatewayTier, ScalingMemory

STALE_SECONDS = 3.0
"""A gateway is polled every second: after three it is unknown, never zero."""
TARGET_PER_REPLICA = 8
"""Requests in flight per replica. Of the laws on in-flight requests this target met latency
objectives best in simulation, at the price of some GPU hours (dev measurements of the law)."""
DOWN_WINDOW_SECONDS = 150.0
"""How long fewer replicas must do before one goes; starts of a 9B model take about as long."""
DOWN_STEP_SECONDS = 30.0
"""Between two steps down, so that the effect of one is seen before the next."""


class ScaleReason(StrEnum):
    """Why the wanted number is what it is: the label of the metric and part of the status."""

    STEADY = "Steady"
    LOAD = "Load"
    WAKE = "Wake"
    IDLE = "Idle"
    LESS_LOAD = "LessLoad"
    BOUNDS = "Bounds"
    CAPACITY = "CapacityLimited"
    UNKNOWN = "Unknown"
    ROLLOUT = "Rollout"


@dataclass(frozen=True, slots=True)
class Policy:
    """The user's bounds."""

    minimum: int
    maximum: int
    idle_seconds: float
    target: int = TARGET_PER_REPLICA


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of one tier now."""

    current: int
    """Replicas wanted up to now."""
    capacity: int
    """Replicas there could be: placed ones and free slots."""
    reports: tuple[GatewayReport, ...]
    gateways: int
    """Gateways that should report."""
    serving: int
    """Replicas that answer requests now."""
    tier: str
    placed: bool = True
    """Whether any replica has a node, so that it may serve in a while."""
    rolling: bool = False
    """Replicas are being replaced: not a time to remove any."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The wanted number of replicas, and why."""

    desired: int
    reason: ScaleReason
    memory: ScalingMemory


@dataclass(frozen=True, slots=True)
class _Load:
    in_flight: int
    held: int
    arrived: bool
    known: bool
    """Every gateway reported lately."""


def is_fresh(report: GatewayReport) -> bool:
    """Whether a report still says something about now."""
    return report.heard and report.age_seconds <= STALE_SECONDS


def decide(signals: Signals, policy: Policy, memory: ScalingMemory, now: float) -> Decision:
    """One step of the control law. Bounds bind at once, growth is immediate, shrinking slow."""
    load = _load(signals, memory)
    memory = _remember(signals, load, memory, now)
    desired, reason = _bound(signals, policy, load)
    if reason is ScaleReason.STEADY:
        return _shrink(signals, policy, load, memory, now)
    return _decision(signals, desired, reason, replace(memory, below_since=None))


def _decision(
    signals: Signals, desired: int, reason: ScaleReason, memory: ScalingMemory
) -> Decision:
    """Remember what is wanted, and why where that is a change."""
    why = memory.reason if desired == signals.current else reason.value
    return Decision(desired, reason, replace(memory, desired=desired, reason=why))


def _load(signals: Signals, memory: ScalingMemory) -> _Load:
    fresh = [report for report in signals.reports if is_fresh(report)]
    tiers = [(report.pod, report.tiers.get(signals.tier, GatewayTier())) for report in fresh]
    complete = len(fresh) >= max(1, signals.gateways) and len(fresh) == len(signals.reports)
    return _Load(
        in_flight=sum(tier.in_flight for _, tier in tiers),
        held=sum(tier.held for _, tier in tiers),
        arrived=_arrived(tiers, memory.arrivals),
        known=complete,
    )


def _arrived(tiers: Sequence[tuple[str, GatewayTier]], before: Mapping[str, int]) -> bool:
    """A counter that moved, either way, saw a request: a restarted gateway counts from zero."""
    return any(tier.arrivals != before.get(pod, 0) for pod, tier in tiers)


def _remember(signals: Signals, load: _Load, memory: ScalingMemory, now: float) -> ScalingMemory:
    seen = {
        report.pod: report.tiers.get(signals.tier, GatewayTier()).arrivals
        for report in signals.reports
        if is_fresh(report)
    }
    present = {report.pod for report in signals.reports}
    kept = {pod: count for pod, count in memory.arrivals.items() if pod in present}
    # A tier that starts has had no chance to be idle; one that waits for GPUs or nodes would else
    # wait for ever, and buy a node when nobody asks for it any more.
    starting = signals.current > 0 and signals.serving == 0 and signals.placed
    busy = load.arrived or load.in_flight > 0 or load.held > 0 or starting
    last = now if busy or memory.last_arrival_at is None else memory.last_arrival_at
    return replace(memory, arrivals=kept | seen, last_arrival_at=last)


def _needed(signals: Signals, policy: Policy, load: _Load) -> int:
    """Replicas that the present work asks for; at zero only held requests are work to come."""
    in_flight = load.in_flight if signals.current else 0
    return min(math.ceil((in_flight + load.held) / policy.target), policy.maximum)


def _bound(signals: Signals, policy: Policy, load: _Load) -> tuple[int, ScaleReason]:
    """What load and bounds ask for at once; Steady where they ask for nothing."""
    current = signals.current
    if current > policy.maximum:
        return policy.maximum, ScaleReason.BOUNDS
    needed = _needed(signals, policy, load)
    if needed <= current and current >= policy.minimum:
        return current, ScaleReason.STEADY
    desired = max(needed, policy.minimum)
    reason = ScaleReason.LOAD if needed >= policy.minimum else ScaleReason.BOUNDS
    if current == 0 and load.held:
        reason = ScaleReason.WAKE
    # Growth stops at the GPUs there are: no pod is made only to wait for one.
    limit = max(current, signals.capacity)
    return (limit, ScaleReason.CAPACITY) if desired > limit else (desired, reason)


def _is_idle(policy: Policy, load: _Load, memory: ScalingMemory, now: float) -> bool:
    """No arrival, nothing in flight, nothing held, for long enough."""
    if policy.minimum or load.in_flight or load.held or memory.last_arrival_at is None:
        return False
    return now - memory.last_arrival_at >= policy.idle_seconds


def _shrink(
    signals: Signals, policy: Policy, load: _Load, memory: ScalingMemory, now: float
) -> Decision:
    """Fewer replicas, only on full knowledge: all at once when idle, else one after a window."""
    current = signals.current
    calm = replace(memory, below_since=None)
    if not load.known or signals.rolling:
        reason = ScaleReason.ROLLOUT if load.known else ScaleReason.UNKNOWN
        return _decision(signals, current, reason, calm)
    if current and _is_idle(policy, load, memory, now):
        return _decision(signals, 0, ScaleReason.IDLE, calm)
    if max(1, policy.minimum, _needed(signals, policy, load)) >= current:
        return _decision(signals, current, ScaleReason.STEADY, calm)
    since = now if memory.below_since is None else memory.below_since
    if now - since < DOWN_WINDOW_SECONDS:
        waiting = replace(memory, below_since=since)
        return _decision(signals, current, ScaleReason.STEADY, waiting)
    next_step = replace(memory, below_since=now - DOWN_WINDOW_SECONDS + DOWN_STEP_SECONDS)
    return _decision(signals, current - 1, ScaleReason.LESS_LOAD, next_step)
