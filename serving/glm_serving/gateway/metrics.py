"""Metrics `glm_gateway_*`: plain counters while requests run, Prometheus families when asked.

Labels are bounded: tiers, tasks, reasons, phases and causes are closed lists, statuses are HTTP's,
and of teams the first few are told apart.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from glm_serving.compat import override

Labels = tuple[str, ...]
SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
DECISION_SECONDS = (0.00001, 0.00002, 0.00005, 0.0001, 0.00025, 0.001, 0.005, 0.02, 0.1)


class Counter:
    """A counter with labels."""

    def __init__(self, name: str, text: str, labels: Labels = ()) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._values: defaultdict[Labels, float] = defaultdict(float)

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Count."""
        self._values[labels] += amount

    def value(self, labels: Labels = ()) -> float:
        """The count so far."""
        return self._values.get(labels, 0.0)

    def sum(self, first: Labels) -> float:
        """The count over every series whose labels begin so."""
        return sum(v for labels, v in self._values.items() if labels[: len(first)] == first)

    def family(self) -> Metric:
        """As Prometheus sees it."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        return family


class Histogram:
    """A histogram with labels and fixed upper bounds."""

    def __init__(
        self, name: str, text: str, bounds: tuple[float, ...], labels: Labels = ()
    ) -> None:
        self._name, self._text, self._bounds, self._labels = name, text, bounds, labels
        self._buckets: dict[Labels, list[int]] = {}
        self._sums: defaultdict[Labels, float] = defaultdict(float)

    def observe(self, value: float, labels: Labels = ()) -> None:
        """Add one observation."""
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = [0] * (len(self._bounds) + 1)
        buckets[bisect.bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def family(self) -> Metric:
        """As Prometheus sees it."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        bounds = [*map(str, self._bounds), "+Inf"]
        for labels, buckets in list(self._buckets.items()):
            counts = itertools.accumulate(buckets)
            family.add_metric(labels, list(zip(bounds, counts, strict=True)), self._sums[labels])
        return family


class Gauge:
    """A gauge that is read when asked: `read` yields labels and values."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Labels,
        read: Callable[[], Iterable[tuple[Labels, float]]],
    ) -> None:
        self._name, self._text, self._labels, self._read = name, text, labels, read

    def family(self) -> Metric:
        """As Prometheus sees it."""
        family = GaugeMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._read():
            family.add_metric(labels, value)
        return family


class Metrics(Collector):
    """Every metric of the gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.requests = Counter(
            "glm_gateway_requests",
            "Requests by tier, task, reason of the decision or of the error, and HTTP status.",
            ("tier", "task", "reason", "status"),
        )
        self.retries = Counter(
            "glm_gateway_retries",
            "Tries after one that failed before its first byte.",
            ("tier", "cause"),
        )
        self.aborts = Counter(
            "glm_gateway_aborts", "Requests whose client left, by phase.", ("tier", "phase")
        )
        self.tokens = Counter(
            "glm_gateway_tokens",
            "Tokens of answered requests, reported by the engine or estimated here.",
            ("tier", "kind", "source", "team"),
        )
        self.image_tokens = Counter(
            "glm_gateway_image_tokens",
            "The part of the prompts' tokens that images take, by their sizes in pixels.",
            ("tier", "source", "team"),
        )
        self.bytes = Counter("glm_gateway_bytes", "Body bytes from and to clients.", ("direction",))
        self.config_errors = Counter(
            "glm_gateway_config_errors", "Configurations refused; the last good one stays in use."
        )
        self.watch_errors = Counter(
            "glm_gateway_watch_errors", "Failed lists and watches.", ("resource",)
        )
        self.first_token = Histogram(
            "glm_gateway_first_token_seconds",
            "From the end of a request to the first byte of its answer, holding included.",
            SECONDS,
            ("tier",),
        )
        self.inter_token = Histogram(
            "glm_gateway_inter_token_seconds",
            "Mean time between the tokens of one streamed answer.",
            TOKEN_SECONDS,
            ("tier",),
        )
        self.duration = Histogram(
            "glm_gateway_request_seconds",
            "From the end of a request to the last byte of its answer, holding included.",
            SECONDS,
            ("tier",),
        )
        self.hold = Histogram(
            "glm_gateway_hold_seconds", "How long held requests waited.", SECONDS, ("tier",)
        )
        self.decision = Histogram(
            "glm_gateway_decision_seconds", "Facts and decision of one request.", DECISION_SECONDS
        )
        self._gauges: list[Gauge] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def gauge(
        self,
        name: str,
        text: str,
        labels: Labels,
        read: Callable[[], Iterable[tuple[Labels, float]]],
    ) -> None:
        """Add a gauge that is read when asked."""
        self._gauges.append(Gauge(name, text, labels, read))

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: the registry need not collect to learn names."""
        return ()

    @override
    def collect(self) -> Iterable[Metric]:
        """Every family, as of now."""
        for metric in vars(self).values():
            if isinstance(metric, Counter | Histogram):
                yield metric.family()
        for gauge in self._gauges:
            yield gauge.family()
