"""The laws that are compared: ours as production runs it, those that people use, and two limits.

The rivals follow their documentation: HPA v2 with an external AverageValue metric (15 s, tolerance
0.1, 300 s of stabilisation, at most 100 % or 4 pods per 15 s), Knative's KPA (windows of 60 s and
6 s, panic at 2, at most halved at once).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from glm_operator.scaling import law
from glm_operator.scaling.work import Costs
from glm_operator.simulate.engine import Hardware, Request
from glm_operator.simulate.world import Seen

WELL_USED = 32
"""Sequences of a batch at which the costs per token are taken."""
TYPICAL_CONTEXT = 2000


def true_costs(hardware: Hardware) -> Costs:
    """The costs per token that a controller would measure on this hardware."""
    step = hardware.base / WELL_USED + hardware.per_sequence
    output = step + hardware.per_context_token * TYPICAL_CONTEXT
    return Costs(hardware.per_prompt_token, hardware.per_image_token, output)


@dataclass(slots=True)
class Ours:
    """The law of the operator."""

    policy: law.Policy
    between_seconds: float = 0.060
    memory: law.Memory = field(default_factory=law.Memory)
    last: law.Decision | None = None

    def __call__(self, seen: Seen | None, now: float, current: int) -> int:
        """One step."""
        self.last = law.decide(self._signals(seen, now, current), self.policy, self.memory)
        self.memory = self.last.memory
        return self.last.desired

    def _signals(self, seen: Seen | None, now: float, current: int) -> law.Signals:
        if seen is None:
            return law.Signals(now, current, self.policy.maximum, None, None, in_flight=None)
        return law.Signals(
            now=now,
            current=current,
            capacity=seen.slots,
            arrived=seen.arrived,
            waiting=seen.waiting,
            held=seen.held,
            in_flight=seen.in_flight,
            answered=seen.answered,
            output=seen.output,
            ready=seen.ready,
            ages=seen.ages,
            started=seen.started,
            context=seen.context,
            samples=seen.samples,
            strain=self._strain(seen),
        )

    def _strain(self, seen: Seen) -> float | None:
        if len(seen.first_tokens) < 20:
            return None
        first = _quantile(seen.first_tokens, 0.9) / self.policy.first_token_seconds
        return max(first, _quantile(seen.between_tokens, 0.9) / self.between_seconds)


@dataclass(slots=True)
class Static:
    """Always as many."""

    count: int

    def __call__(self, seen: Seen | None, now: float, current: int) -> int:
        """The number."""
        return self.count


@dataclass(slots=True)
class Hpa:
    """HPA v2 on one external metric: requests that wait, or requests in flight."""

    target: float
    metric: str
    """`waiting` or `in-flight`."""
    minimum: int
    maximum: int
    _asked: deque[tuple[float, int]] = field(default_factory=deque)
    _next: float = 0.0

    def __call__(self, seen: Seen | None, now: float, current: int) -> int:
        """Every 15 s; nothing changes without a metric."""
        if now < self._next or seen is None:
            return current
        self._next = now + 15.0
        value = seen.held + (seen.queued if self.metric == "waiting" else seen.in_flight)
        ratio = value / (self.target * max(1, current))
        asked = current if abs(ratio - 1) <= 0.1 else math.ceil(value / self.target)
        asked = min(max(asked, self.minimum), self.maximum)
        self._asked.append((now, asked))
        while self._asked[0][0] <= now - 300.0:
            self._asked.popleft()
        if asked >= current:
            return min(asked, max(2 * current, current + 4))
        return min(current, max(count for _, count in self._asked))


@dataclass(slots=True)
class Kpa:
    """Knative's autoscaler on requests in flight, those that wait included."""

    target: float
    minimum: int
    maximum: int
    _seen: deque[tuple[float, int]] = field(default_factory=deque)
    _panic_until: float = -1.0
    _panic_peak: int = 0

    def __call__(self, seen: Seen | None, now: float, current: int) -> int:
        """One tick; nothing changes without data."""
        if seen is None:
            return current
        self._seen.append((now, seen.in_flight + seen.held))
        while self._seen[0][0] <= now - 60.0:
            self._seen.popleft()
        stable = _mean([count for _, count in self._seen]) / self.target
        panic = _mean([count for at, count in self._seen if at > now - 6.0]) / self.target
        ready = max(1, seen.ready)
        if math.ceil(panic) / ready >= 2.0:
            self._panic_until = now + 60.0
        wanted = max(math.ceil(stable), current // 2)
        if now < self._panic_until:
            self._panic_peak = max(self._panic_peak, math.ceil(panic), current)
            wanted = max(wanted, self._panic_peak)
        else:
            self._panic_peak = 0
        return min(max(wanted, self.minimum), self.maximum)


@dataclass(slots=True)
class Oracle:
    """Knows all arrivals to come and what they cost: the limit of what any law could do."""

    use: float
    costs: Costs
    lead: float
    minimum: int
    maximum: int
    requests: Sequence[Request]
    _times: list[float] = field(default_factory=list)
    _sums: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        total = 0.0
        for one in sorted(self.requests, key=lambda one: one.arrived):
            prompt = one.prompt * self.costs.prompt + one.images * self.costs.image
            total += prompt + one.output * self.costs.output
            self._times.append(one.arrived)
            self._sums.append(total)

    def __call__(self, seen: Seen | None, now: float, current: int) -> int:
        """What the arrivals until a replica created now is ready, and shortly after, will need."""
        windows = range(int(now), int(now + self.lead + 30.0), 10)
        rate = max(self._between(start, start + 20.0) / 20.0 for start in windows)
        wanted = math.ceil(rate / self.use)
        return min(max(wanted, self.minimum), self.maximum)

    def _between(self, start: float, end: float) -> float:
        first, last = bisect_left(self._times, start), bisect_left(self._times, end)
        if last <= first:
            return 0.0
        return self._sums[last - 1] - (self._sums[first - 1] if first else 0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
