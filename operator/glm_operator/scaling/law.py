"""The control law: from arriving work, lead time and free slots to a number of replicas.

Feed-forward on the work that arrives (replica-seconds per second), a projection of the backlog to
the moment when new capacity lands, feedback of latency by one slow corrector. Sources: the
research behind docs/autoscaling.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from glm_operator.scaling.calibration import Sample, calibrated
from glm_operator.scaling.work import Costs, Work

SLOW_SECONDS, FAST_SECONDS = 60.0, 10.0
"""The two windows of the arrival rate."""
SIGNIFICANT = 3.0
"""Standard deviations by which the fast rate must lead, so that one giant request is no burst."""
DRAIN_SECONDS = 30.0
"""In how long a backlog should be gone once new capacity has landed."""
DOWN_LEADS, DOWN_LEAST, DOWN_MOST = 1.5, 150.0, 600.0
"""How long fewer replicas must do before one goes: so many lead times, within bounds (seconds)."""
DOWN_STEP_SECONDS = 15.0
LOOP_FACTOR = 1.6
"""Clients that wait for answers make a backlog that no capacity removes: it asks for no more than
this many times what the arrivals ask for."""
CONTEXT_FULL, CONTEXT_SURVIVORS = 0.85, 0.80
"""Use of the KV cache to plan for, and at most after a removal."""
LEAD_GAIN = 0.3
SLO_SECONDS, SLO_GAIN = 60.0, 0.1
EASY, STRAINED = 0.40, 0.55
"""P90 latency over its objective, between which nothing is corrected: latency rises like a wall, so
half of the objective is near enough to it (the band of llm-d's SLO-aware autoscaler)."""
CORRECTOR_LEAST, CORRECTOR_MOST = 0.7, 2.0
BUSY = 0.5
"""Use below which good latency says nothing about the costs."""
FALLBACK_TARGET = 8
"""Requests in flight per replica, where the gateways' counters are unknown."""


class Why(StrEnum):
    """Why the wanted number is what it is."""

    STEADY = "Steady"
    LOAD = "Load"
    BACKLOG = "Backlog"
    CONTEXT = "KVCache"
    WAKE = "Wake"
    IDLE = "Idle"
    LESS_LOAD = "LessLoad"
    BOUNDS = "Bounds"
    CAPACITY = "CapacityLimited"
    UNKNOWN = "Unknown"
    FALLBACK = "Fallback"
    ROLLOUT = "Rollout"


@dataclass(frozen=True, slots=True)
class Policy:
    """The user's bounds and what the platform knows of its engines."""

    minimum: int
    maximum: int
    costs: Costs
    context_tokens: float
    """KV tokens of one replica."""
    idle_seconds: float = 600.0
    first_token_seconds: float = 2.0
    """The objective."""
    use: float = 0.75
    """Share of a replica's time that planned work may take."""
    most_use: float = 0.92
    lead_seconds: float = 120.0
    """From creation to readiness, until it was measured."""
    output_tokens: float = 256.0
    """Of an answer, until it was measured."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of one tier now; None: unknown, which is never zero."""

    now: float
    current: int
    """Replicas wanted up to now."""
    capacity: int
    """Replicas there could be: those there are, and free slots."""
    arrived: Work | None
    """Since the gateways started, monotonic."""
    waiting: Work | None
    """Held at gateways, or without a first token at engines."""
    held: int = 0
    """Requests at gateways for which no replica is there."""
    in_flight: int | None = 0
    answered: float = 0.0
    """Finished requests since the gateways started, monotonic."""
    output: float = 0.0
    """Their output tokens."""
    ready: int = 0
    ages: Sequence[float] = ()
    """Since creation, of replicas that start and are not stuck, in seconds."""
    started: Sequence[float] = ()
    """How long each replica took that became ready since the last step."""
    context: float = 0.0
    """KV tokens in use at all replicas."""
    samples: Sequence[Sample] = ()
    """What warm replicas did since the last step."""
    strain: float | None = None
    """P90 over objective of first token and inter-token time, the larger; None: no samples."""
    rolling: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """What had arrived at a moment, in replica-seconds."""

    at: float
    work: float
    squares: float


@dataclass(frozen=True, slots=True)
class Peak:
    """The largest need within a short while."""

    at: float
    need: float
    rate: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What the law remembers between steps. Without it no replica goes for a while."""

    since: float | None = None
    """When it began to watch."""
    arrived: Work = field(default_factory=Work)
    answered: float = 0.0
    output: float = 0.0
    marks: tuple[Mark, ...] = ()
    peaks: tuple[Peak, ...] = ()
    lead: float | None = None
    tokens: float | None = None
    """Output tokens of an answer."""
    calibration: float = 1.0
    """The costs are so many times those of the policy, by what engines got done."""
    corrector: float = 1.0
    """And so many times that, by the latency."""
    corrected_at: float = 0.0
    busy_at: float | None = None
    """When there last was anything to do."""
    shrunk_at: float = -math.inf
    unknown_since: float | None = None


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a decision rests on."""

    rate: float = 0.0
    """Arriving work, replicas' worth."""
    backlog: float = 0.0
    """Replica-seconds that wait."""
    projected: float = 0.0
    """The backlog when new capacity lands."""
    lead: float = 0.0
    need: float = 0.0
    """Replicas, before rounding and bounds."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The wanted number of replicas, why, and the numbers behind it."""

    desired: int
    why: Why
    memory: Memory
    numbers: Numbers = field(default_factory=Numbers)


def decide(signals: Signals, policy: Policy, memory: Memory) -> Decision:
    """One step of the law, to be made every few seconds."""
    memory = _watch(signals, memory)
    if signals.arrived is None or signals.waiting is None:
        return _blind(signals, policy, replace(memory, marks=(), shrunk_at=signals.now))
    memory = _count(signals, policy, replace(memory, unknown_since=None))
    numbers, why = _need(signals, policy, memory)
    memory = _remember(signals, numbers, policy, memory)
    up, why = _up(signals, policy, numbers, why)
    if up is not None:
        return Decision(up, why, memory, numbers)
    return _down(signals, policy, memory, numbers)


# --- what is learnt


def _watch(signals: Signals, memory: Memory) -> Memory:
    if memory.since is None:
        memory = replace(memory, since=signals.now)
    for seconds in signals.started:
        known = seconds if memory.lead is None else memory.lead
        memory = replace(memory, lead=known + LEAD_GAIN * (seconds - known))
    return memory


def _costs(policy: Policy, memory: Memory) -> Costs:
    return policy.costs.scaled(memory.calibration * memory.corrector)


def _count(signals: Signals, policy: Policy, memory: Memory) -> Memory:
    """Add what arrived since the last step, and learn how long answers are and what they cost."""
    assert signals.arrived is not None
    known_factor = calibrated(memory.calibration, policy.costs, signals.samples)
    memory = replace(memory, calibration=known_factor)
    answered, output = signals.answered - memory.answered, signals.output - memory.output
    tokens = memory.tokens
    if answered > 0 and output >= 0:
        known = policy.output_tokens if tokens is None else tokens
        weight = 1 - math.exp(-answered / 200.0)
        tokens = known + weight * (output / answered - known)
    new = signals.arrived - memory.arrived
    if new.requests < 0 or not memory.marks:
        new = Work()
    costs = _costs(policy, memory)
    length = policy.output_tokens if tokens is None else tokens
    last = memory.marks[-1] if memory.marks else Mark(signals.now, 0.0, 0.0)
    mark = Mark(
        signals.now,
        last.work + costs.seconds(new, length),
        last.squares + costs.squares(new, length),
    )
    busy = new.requests > 0 or signals.held > 0 or bool(signals.in_flight)
    starting = bool(signals.ages) and signals.ready == 0
    busy_at = signals.now if busy or starting or memory.busy_at is None else memory.busy_at
    return replace(
        memory,
        arrived=signals.arrived,
        answered=signals.answered,
        output=signals.output,
        tokens=tokens,
        marks=_within((*memory.marks, mark), signals.now - SLOW_SECONDS),
        busy_at=busy_at,
    )


def _within(marks: tuple[Mark, ...], start: float) -> tuple[Mark, ...]:
    """The marks since a moment, and one from before."""
    first = 0
    while first + 1 < len(marks) and marks[first + 1].at <= start:
        first += 1
    return marks[first:]


def rate(marks: Sequence[Mark], now: float) -> float:
    """Arriving work in replicas' worth: the fast window's where it leads beyond chance."""
    slow, squares = _slope(marks, now, SLOW_SECONDS)
    fast, _ = _slope(marks, now, FAST_SECONDS)
    # The variance of a compound Poisson rate over the fast window, from the slow one's requests.
    chance = math.sqrt(max(0.0, squares) / FAST_SECONDS)
    return fast if fast > slow + SIGNIFICANT * chance else slow


def _slope(marks: Sequence[Mark], now: float, seconds: float) -> tuple[float, float]:
    """Work, and its squares, per second over a window; shorter while it is not full."""
    first = next((one for one in reversed(marks) if one.at <= now - seconds), marks[0])
    last = marks[-1]
    span = max(last.at - first.at, FAST_SECONDS)
    return (last.work - first.work) / span, (last.squares - first.squares) / span


# --- what is needed


def _need(signals: Signals, policy: Policy, memory: Memory) -> tuple[Numbers, Why]:
    assert signals.waiting is not None
    costs = _costs(policy, memory)
    tokens = policy.output_tokens if memory.tokens is None else memory.tokens
    lead = max(5.0, policy.lead_seconds if memory.lead is None else memory.lead)
    arriving = rate(memory.marks, signals.now)
    backlog = costs.seconds(signals.waiting, tokens)
    coming = sum(max(0.0, lead - max(5.0, lead - age)) for age in signals.ages)
    landing = policy.most_use * (signals.ready * lead + coming)
    projected = max(0.0, backlog + arriving * lead - landing)
    load = arriving / policy.use
    catching_up = arriving / policy.most_use + projected / DRAIN_SECONDS
    catching_up = min(catching_up, LOOP_FACTOR * load + 1.0)
    kept = (signals.context + signals.waiting.prompt) / (CONTEXT_FULL * policy.context_tokens)
    need = max(load, catching_up, kept)
    why = Why.LOAD if need == load else Why.BACKLOG if need == catching_up else Why.CONTEXT
    return Numbers(arriving, backlog, projected, lead, need), why


def _remember(signals: Signals, numbers: Numbers, policy: Policy, memory: Memory) -> Memory:
    """Keep the largest needs for the way down, and correct the costs by the latency."""
    now = signals.now
    need = max(numbers.rate / policy.use, signals.context / (CONTEXT_FULL * policy.context_tokens))
    kept = tuple(one for one in memory.peaks if one.at > now - DOWN_MOST)
    if kept and now - kept[-1].at < FAST_SECONDS:
        last = kept[-1]
        top = Peak(last.at, max(last.need, need), max(last.rate, numbers.rate))
        memory = replace(memory, peaks=(*kept[:-1], top))
    else:
        memory = replace(memory, peaks=(*kept, Peak(now, need, numbers.rate)))
    return _corrected(signals, numbers, memory)


def _corrected(signals: Signals, numbers: Numbers, memory: Memory) -> Memory:
    if signals.strain is None or signals.ages or not signals.ready:
        return memory
    if signals.now - max(memory.corrected_at, memory.since or 0.0) < SLO_SECONDS:
        return memory
    strain, factor = min(2.0, signals.strain), memory.corrector
    if strain > STRAINED:
        factor *= 1 + SLO_GAIN * (strain / STRAINED - 1)
    elif strain < EASY and numbers.rate >= BUSY * signals.ready:
        factor *= 1 - SLO_GAIN * (1 - strain / EASY)
    else:
        return memory
    factor = min(CORRECTOR_MOST, max(CORRECTOR_LEAST, factor))
    return replace(memory, corrector=factor, corrected_at=signals.now)


# --- what is done


def _up(signals: Signals, policy: Policy, numbers: Numbers, why: Why) -> tuple[int | None, Why]:
    """The number to grow to, or None."""
    current = signals.current
    if current > policy.maximum:
        return policy.maximum, Why.BOUNDS
    need = math.ceil(numbers.need - 1e-9)
    if signals.held:
        need = max(1, need)
    if current == 0 and not signals.held:
        need = 0
    wanted = min(max(need, policy.minimum), policy.maximum)
    if wanted <= current:
        return None, Why.STEADY
    if need < policy.minimum:
        why = Why.BOUNDS
    elif current == 0:
        why = Why.WAKE
    wanted = min(wanted, max(2 * current, current + 4))
    limit = max(current, signals.capacity)
    return (limit, Why.CAPACITY) if wanted > limit else (wanted, why)


def _down(signals: Signals, policy: Policy, memory: Memory, numbers: Numbers) -> Decision:
    current, now = signals.current, signals.now
    steady = Decision(current, Why.STEADY, memory, numbers)
    if signals.rolling:
        return replace(steady, why=Why.ROLLOUT)
    if current and _is_idle(signals, policy, memory, numbers):
        return Decision(0, Why.IDLE, memory, numbers)
    window = min(DOWN_MOST, max(DOWN_LEAST, DOWN_LEADS * numbers.lead))
    assert memory.since is not None
    if now - memory.since < window or now - memory.shrunk_at < DOWN_STEP_SECONDS:
        return steady
    recent = [one for one in memory.peaks if one.at > now - window]
    enough = math.ceil(max(one.need for one in recent) - 1e-9)
    target = max(1, policy.minimum, enough, current - max(1, current // 3))
    while target < current and not _survives(signals, policy, recent, numbers, target):
        target += 1
    if target >= current:
        return steady
    return Decision(target, Why.LESS_LOAD, replace(memory, shrunk_at=now), numbers)


def _survives(
    signals: Signals, policy: Policy, recent: Sequence[Peak], numbers: Numbers, count: int
) -> bool:
    """Whether so many replicas would have carried the last window's peak."""
    peak = max(one.rate for one in recent)
    context = signals.context <= CONTEXT_SURVIVORS * policy.context_tokens * count
    calm = numbers.backlog <= max(1.0, peak) * policy.first_token_seconds
    return peak <= policy.most_use * count and context and calm


def _is_idle(signals: Signals, policy: Policy, memory: Memory, numbers: Numbers) -> bool:
    if policy.minimum or signals.held or signals.in_flight != 0 or memory.busy_at is None:
        return False
    return signals.now - memory.busy_at >= policy.idle_seconds


def _blind(signals: Signals, policy: Policy, memory: Memory) -> Decision:
    """Without the gateways' counters: engines may raise the number, nothing lowers it."""
    since = signals.now if memory.unknown_since is None else memory.unknown_since
    memory = replace(memory, unknown_since=since, since=signals.now)
    current = signals.current
    limit = min(policy.maximum, max(current, signals.capacity))
    needed = 0 if signals.in_flight is None else math.ceil(signals.in_flight / FALLBACK_TARGET)
    if needed > max(current, policy.minimum):
        return Decision(min(needed, limit), Why.FALLBACK, memory)
    return Decision(min(max(current, policy.minimum), limit), Why.UNKNOWN, memory)
