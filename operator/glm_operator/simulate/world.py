"""Simulated time: one gateway, replicas that start slowly, and a law that is asked now and then.

Every law gets the same gateway (a request goes to the ready replica with the least in flight, or
waits for one), the same draws of cold starts, and the same order of removal: what starts first,
then the least busy, and what drains comes back before anything is created.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from glm_operator.scaling.calibration import SAMPLE_SECONDS, Sample, is_saturated
from glm_operator.scaling.work import Work
from glm_operator.simulate.engine import Engine, Hardware, Request

WARM_SECONDS = 60.0
"""What an engine does in its first minute says nothing of its speed."""
LATENCY_SECONDS = 60.0
"""Over how long the observed percentiles reach."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A cluster and its troubles."""

    hardware: Hardware = field(default_factory=Hardware)
    cold_median: float = 100.0
    """Seconds from creation to readiness."""
    cold_sigma: float = 0.25
    slots: int = 16
    """Replicas that the GPUs have room for."""
    initial: int = 4
    hold_seconds: float = 300.0
    most_held: int = 512
    outages: tuple[tuple[float, float], ...] = ()
    """Spans in which no law learns anything."""
    scrape_loss: float = 0.0
    """Share of the observations that are lost."""
    crashes: tuple[float, ...] = ()
    """Moments at which the busiest replica dies."""


@dataclass(slots=True, eq=False)
class Replica:
    """One replica in its life."""

    created: float
    ready_at: float
    engine: Engine | None = None
    draining: bool = False
    busy: bool = False
    """A step is running."""
    gone: bool = False
    looked: tuple[float, int, int, int, bool] | None = None
    """When it was looked at last, its counters, and whether it was saturated."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a law is told; None of it is told in an outage."""

    now: float
    desired: int
    slots: int
    arrived: Work
    waiting: Work
    held: int
    queued: int
    """At engines, without a first token."""
    in_flight: int
    """At engines."""
    answered: int
    output: int
    ready: int
    ages: tuple[float, ...]
    started: tuple[float, ...]
    context: int
    samples: tuple[Sample, ...]
    first_tokens: Sequence[float]
    """Of the last minute, in seconds."""
    between_tokens: Sequence[float]


Follow = Callable[[Request, float], Request]
"""What a client asks next, once a request of it ended at a time."""
Law = Callable[[Seen | None, float, int], int]
"""From what is seen (or None), the time and the present number to the wanted number."""


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    requests: list[Request]
    gpu_seconds: float = 0.0
    starts: int = 0
    reversals: int = 0
    history: list[tuple[float, int, int, float]] = field(default_factory=list)
    """(time, wanted, ready, requests that wait)."""


class World:
    """One run. `tick` is how often the law is asked, in seconds."""

    def __init__(
        self,
        setting: Setting,
        requests: Iterable[Request],
        law: Law,
        seed: int,
        tick: float = 3.0,
        follow: Follow | None = None,
    ) -> None:
        self._setting, self._law, self._tick, self._follow = setting, law, tick, follow
        self._cold = random.Random(f"cold {seed}")
        self._chance = random.Random(f"chance {seed}")
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self.now = 0.0
        self._requests = sorted(requests, key=lambda one: one.arrived)
        self._held: deque[Request] = deque()
        self._replicas: list[Replica] = []
        self._desired = setting.initial
        self._arrived = [0, 0, 0, 0]
        self._answered = self._output = 0
        self._started: list[float] = []
        self._recent: deque[tuple[float, float, float]] = deque()
        self._direction = 0
        self.outcome = Outcome(list(self._requests))

    def run(self, until: float) -> Outcome:
        """Run until a moment; what is not answered by then is missed."""
        for _ in range(self._setting.initial):
            self._create(0.0)
        for at in self._setting.crashes:
            self._at(at, self._crash)
        self._at(self._tick, self._ask)
        arrivals, index = self._requests, 0
        while True:
            due = self._events[0][0] if self._events else math.inf
            if index < len(arrivals) and arrivals[index].arrived <= due:
                self.now = arrivals[index].arrived
                self._arrive(arrivals[index])
                index += 1
            elif due <= until:
                self.now, _, act = heapq.heappop(self._events)
                act()
            else:
                break
        return self._closed(until)

    def _closed(self, until: float) -> Outcome:
        self.now = until
        for replica in self._replicas:
            self.outcome.gpu_seconds += until - replica.created
        return self.outcome

    def _at(self, time: float, act: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, act))

    # --- requests

    def _arrive(self, request: Request) -> None:
        counts, prompt = self._arrived, request.text + request.images
        counts[0] += 1
        counts[1] += request.text
        counts[2] += request.images
        counts[3] += prompt * prompt
        replica = self._pick()
        if replica is not None:
            self._give(replica, request)
        elif len(self._held) >= self._setting.most_held:
            self._lose(request)
        else:
            self._held.append(request)

    def _lose(self, request: Request) -> None:
        request.lost = True
        self._go_on(request)

    def _go_on(self, request: Request) -> None:
        """A client of a closed loop asks anew."""
        if self._follow is None:
            return
        after = self._follow(request, self.now)
        self.outcome.requests.append(after)
        self._at(after.arrived, lambda: self._arrive(after))

    def _pick(self) -> Replica | None:
        best, least = None, self._setting.hardware.max_sequences
        for replica in self._replicas:
            engine = replica.engine
            if engine is not None and not replica.draining:
                load = len(engine.queue) + len(engine.running)
                if load < least:
                    best, least = replica, load
        return best

    def _give(self, replica: Replica, request: Request) -> None:
        assert replica.engine is not None
        replica.engine.queue.append(request)
        if not replica.busy:
            self._begin(replica)

    def _begin(self, replica: Replica) -> None:
        assert replica.engine is not None
        seconds = replica.engine.begin()
        replica.busy = seconds > 0
        if replica.busy:
            self._at(self.now + seconds, lambda: self._end(replica))
        elif replica.draining and not replica.engine.in_flight:
            self._remove(replica)

    def _end(self, replica: Replica) -> None:
        if replica.gone or replica.engine is None:
            return
        for request in replica.engine.end(self.now):
            self._answered += 1
            self._output += request.output
            between = (request.finished - request.first) / max(1, request.output - 1)
            self._recent.append((self.now, request.first - request.arrived, between))
            self._go_on(request)
        self._take_held(replica)
        self._begin(replica)

    def _take_held(self, replica: Replica) -> None:
        """A replica with room takes the oldest that waits."""
        engine, most = replica.engine, self._setting.hardware.max_sequences
        if engine is None or replica.draining:
            return
        while self._held and engine.in_flight < most:
            request = self._held.popleft()
            if self.now - request.arrived > self._setting.hold_seconds:
                self._lose(request)
            else:
                engine.queue.append(request)

    # --- replicas

    def _create(self, cold: float | None = None) -> None:
        setting = self._setting
        if cold is None:
            cold = setting.cold_median * math.exp(self._cold.gauss(0.0, setting.cold_sigma))
            self.outcome.starts += 1
        replica = Replica(self.now, self.now + cold)
        self._replicas.append(replica)
        self._at(replica.ready_at, lambda: self._ready(replica))

    def _ready(self, replica: Replica) -> None:
        if replica.gone:
            return
        replica.engine = Engine(self._setting.hardware)
        if replica.ready_at > replica.created:
            self._started.append(replica.ready_at - replica.created)
        self._take_held(replica)
        self._begin(replica)

    def _remove(self, replica: Replica) -> None:
        replica.gone = True
        self._replicas.remove(replica)
        self.outcome.gpu_seconds += self.now - replica.created

    def _crash(self) -> None:
        ready = [one for one in self._replicas if one.engine is not None]
        if not ready:
            return
        victim = max(ready, key=lambda one: one.engine.in_flight if one.engine else 0)
        assert victim.engine is not None
        lost = victim.engine.drop()
        self._remove(victim)
        self._create()
        for request in lost:
            if request.first >= 0:
                self._lose(request)
            else:
                self._held.append(request)
        for replica in tuple(self._replicas):
            if replica.engine is not None and not replica.busy:
                self._take_held(replica)
                self._begin(replica)

    def _scale(self, desired: int) -> None:
        desired = max(0, min(desired, self._setting.slots))
        alive = [one for one in self._replicas if not one.draining]
        draining = [one for one in self._replicas if one.draining]
        for _ in range(desired - len(alive)):
            if draining:
                back = draining.pop()
                back.draining = False
                self._take_held(back)
                if not back.busy:
                    self._begin(back)
            elif len(self._replicas) < self._setting.slots:
                self._create()
        surplus = sorted(alive, key=_cheapest)[: max(0, len(alive) - desired)]
        for replica in surplus:
            if replica.engine is None:
                self._remove(replica)
            else:
                replica.draining = True
                if not replica.busy and not replica.engine.in_flight:
                    self._remove(replica)

    # --- the law

    def _ask(self) -> None:
        seen = None if self._is_blind() else self._seen()
        desired = self._law(seen, self.now, self._desired)
        change = (desired > self._desired) - (desired < self._desired)
        if change and change == -self._direction:
            self.outcome.reversals += 1
        self._direction = change or self._direction
        self._desired = desired
        self._scale(desired)
        ready = sum(one.engine is not None and not one.draining for one in self._replicas)
        self.outcome.history.append((self.now, desired, ready, len(self._held)))
        self._at(self.now + self._tick, self._ask)

    def _is_blind(self) -> bool:
        out = any(begin <= self.now < end for begin, end in self._setting.outages)
        return out or self._chance.random() < self._setting.scrape_loss

    def _samples(self) -> Iterator[Sample]:
        """What each engine did since the last look, once it has been ready for a minute."""
        for one in self._replicas:
            engine = one.engine
            if engine is None or self.now - one.ready_at < WARM_SECONDS:
                continue
            done = (engine.prompt_done, engine.images_done, engine.output_done)
            if one.looked is not None and self.now - one.looked[0] < SAMPLE_SECONDS:
                continue
            look = (self.now, *done, is_saturated(len(engine.queue)))
            if one.looked is not None:
                yield _sample(one.looked, look)
            one.looked = look

    def _seen(self) -> Seen:
        while self._recent and self._recent[0][0] < self.now - LATENCY_SECONDS:
            self._recent.popleft()
        engines = [one.engine for one in self._replicas if one.engine is not None]
        waits = [*self._held, *(request for engine in engines for request in engine.queue)]
        started, self._started = tuple(self._started), []
        serving = [one for one in self._replicas if one.engine is not None and not one.draining]
        return Seen(
            now=self.now,
            desired=self._desired,
            slots=self._setting.slots,
            arrived=Work(*map(float, self._arrived)),
            waiting=_work(waits),
            held=len(self._held),
            queued=len(waits) - len(self._held),
            in_flight=sum(engine.in_flight for engine in engines),
            answered=self._answered,
            output=self._output,
            ready=len(serving),
            ages=tuple(self.now - one.created for one in self._replicas if one.engine is None),
            started=started,
            context=sum(engine.context for engine in engines),
            samples=tuple(self._samples()),
            first_tokens=[first for _, first, _ in self._recent],
            between_tokens=[between for _, _, between in self._recent],
        )


def _sample(
    before: tuple[float, int, int, int, bool], after: tuple[float, int, int, int, bool]
) -> Sample:
    prompt, images, output = (after[index] - before[index] for index in (1, 2, 3))
    return Sample(after[0] - before[0], prompt, images, output, before[4] and after[4])


def _cheapest(replica: Replica) -> tuple[bool, float]:
    """What goes first: what starts, the youngest first, then the least busy."""
    if replica.engine is None:
        return False, -replica.created
    return True, float(replica.engine.in_flight)


def _work(requests: Sequence[Request]) -> Work:
    text = sum(one.text for one in requests)
    images = sum(one.images for one in requests)
    squares = sum(one.prompt**2 for one in requests)
    return Work(float(len(requests)), float(text), float(images), float(squares))
