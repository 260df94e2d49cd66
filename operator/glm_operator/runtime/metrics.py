"""What the operator measures. Names and labels are a contract with dashboards and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from glm_operator.api import names
from glm_operator.plan.observed import Node
from glm_operator.runtime.inventory import Inventory
from glm_operator.runtime.queue import Key, Queue

PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """All metrics, in a registry of their own so that tests do not share any."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "glm_operator_reconcile_seconds",
            "Time of one reconcile pass.",
            buckets=PASS_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "glm_operator_queue_seconds",
            "How long objects waited for their pass.",
            buckets=PASS_BUCKETS,
            registry=self.registry,
        )
        self.reconcile_errors = self._counter(
            "reconcile_errors_total", "Reconcile passes that failed, by kind of error.", "error"
        )
        self.verifications = self._counter(
            "verifications_total", "Engines checked by tool calls, by result.", "tier", "result"
        )
        self.scale_decisions = self._counter(
            "scale_decisions_total",
            "Changes of the number of replicas wanted, by reason.",
            "tier",
            "reason",
        )
        self.gateway_polls = self._counter(
            "gateway_polls_total", "Polls of gateways, by result.", "result"
        )
        self.leader = self._gauge("leader", "1 while this process holds the Lease.")
        self._queue_age = self._gauge(
            "queue_age_seconds", "How long the oldest object has waited for its pass."
        )
        self._inventory_age = self._gauge(
            "inventory_age_seconds", "Time since the quieter watch of nodes and pods was heard of."
        )
        self._gpus = self._gauge(
            "gpus",
            "GPUs of the cluster: allocatable, free, and planned for replicas.",
            "resource",
            "state",
        )
        self._replicas = self._gauge(
            "replicas",
            "Engine replicas, ready and desired.",
            *("namespace", "deployment", "tier", "state"),
        )

        self.weights_fetches = self._counter(
            "weights_fetches_total",
            "Checkpoints brought to a node or a claim, by result (a reason of the catalogue).",
            "result",
        )
        where = ("namespace", "deployment", "tier", "place")
        self._weights = {
            "bytes": self._gauge("weights_bytes", "Bytes of a checkpoint at a place.", *where),
            "totalBytes": self._gauge(
                "weights_total_bytes", "Bytes that a place will hold of a checkpoint.", *where
            ),
            "bytesPerSecond": self._gauge(
                "weights_bytes_per_second", "Present rate of a transfer of weights.", *where
            ),
        }

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"glm_operator_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"glm_operator_{name}", text, labels, registry=self.registry)

    def refresh(self, queue: Queue, inventory: Inventory) -> None:
        """Read queue and inventory; called before every scrape."""
        self._queue_age.set(queue.age())
        self._inventory_age.set(inventory.age())
        self._gpus.clear()
        totals = gpu_totals(inventory.nodes(), inventory.planned())
        for (resource, state), count in totals.items():
            self._gpus.labels(resource, state).set(count)

    def set_replicas(self, key: Key, status: Mapping[str, Any]) -> None:
        """Show the numbers of an object's status."""
        tiers = status.get("tiers") or {}
        for tier in names.TIERS:
            shown = tiers.get(tier)
            if shown is None:
                self._drop(key, tier)
                continue
            self._set_weights((*key, tier), (shown.get("weights") or {}).get("copies") or ())
            for state, field in (("ready", "readyReplicas"), ("desired", "desiredReplicas")):
                self._replicas.labels(*key, tier, state).set(shown.get(field, 0))

    def _set_weights(self, of: tuple[str, ...], copies: Iterable[Mapping[str, Any]]) -> None:
        """Show the copies of a tier; those that are no more end."""
        self._drop_weights(of)
        for one in copies:
            for field, gauge in self._weights.items():
                gauge.labels(*of, one["place"]).set(one.get(field, 0))

    def _drop_weights(self, of: tuple[str, ...]) -> None:
        labels = dict(zip(("namespace", "deployment", "tier"), of, strict=True))
        for gauge in self._weights.values():
            gauge.remove_by_labels(labels)

    def forget(self, key: Key) -> None:
        """An object is gone: its series end."""
        for tier in names.TIERS:
            self._drop(key, tier)

    def _drop(self, key: Key, tier: str) -> None:
        self._replicas.remove_by_labels({"namespace": key[0], "deployment": key[1], "tier": tier})
        self._drop_weights((*key, tier))


def gpu_totals(nodes: Iterable[Node], planned: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """(resource, state) -> count. What a node that is not ready has free is of no use."""
    totals: dict[tuple[str, str], int] = {}
    for node in nodes:
        for resource, count in node.allocatable.items():
            held = sum(hold.count for hold in node.holds if hold.resource == resource)
            free = max(0, count - held) if node.ready else 0
            for state, amount in (("allocatable", count), ("free", free)):
                totals[resource, state] = totals.get((resource, state), 0) + amount
            totals[resource, "planned"] = planned.get(resource, 0)
    return totals
