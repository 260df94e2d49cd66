"""Kubernetes events (events.k8s.io/v1), once per window."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from glm_operator.api import names
from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import KubeError
from glm_operator.kube.execute import Owner
from glm_operator.plan import times
from glm_operator.plan.actions import Event

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 300.0
"""The same sentence about the same object is said once in this time."""
PER_REASON = 5
"""Different sentences of one reason about one object in the same time."""
NOTE_LIMIT = 1024
"""The API server refuses longer notes."""
REMEMBERED = 4096
"""Sentences kept; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class _Said:
    uid: str
    reason: str
    note: str


class EventRecorder:
    """Writes events and never fails: an event is a courtesy, its loss is logged.

    Args:
        cluster: the API server.
        instance: name of this process, such as its pod's.
        clock: seconds since the epoch.
    """

    def __init__(self, cluster: Cluster, instance: str, clock: Callable[[], float]) -> None:
        self._cluster = cluster
        self._instance = instance
        self._clock = clock
        self._said: dict[_Said, float] = {}

    async def record(self, owner: Owner, event: Event) -> None:
        """Write the event unless it was said lately."""
        now = self._clock()
        said = _Said(owner.uid, event.reason, event.message)
        if not self._is_news(said, now):
            return
        self._said[said] = now
        try:
            await self._cluster.create(self._manifest(owner, event, now))
        except KubeError as error:
            logger.warning("event %s was not recorded: %s", event.reason, error)

    def _is_news(self, said: _Said, now: float) -> bool:
        old = [key for key, moment in self._said.items() if now - moment >= WINDOW_SECONDS]
        surplus = len(self._said) - len(old) - REMEMBERED
        for key in [*old, *list(self._said)[: max(0, surplus)]]:
            self._said.pop(key, None)
        same = [key for key in self._said if (key.uid, key.reason) == (said.uid, said.reason)]
        return said not in self._said and len(same) < PER_REASON

    def _manifest(self, owner: Owner, event: Event, now: float) -> dict[str, object]:
        words = f"{owner.uid}|{event.reason}|{event.message}|{now}"
        suffix = hashlib.sha256(words.encode()).hexdigest()[:16]
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{owner.name}.{suffix}", "namespace": owner.namespace},
            "eventTime": times.to_exact_text(now),
            "reportingController": names.GROUP,
            "reportingInstance": self._instance[:128],
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": event.message[:NOTE_LIMIT],
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": names.KIND,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
        }
