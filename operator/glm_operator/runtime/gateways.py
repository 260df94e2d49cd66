"""Ask every gateway for its `/state` once a second, each by itself."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glm_operator.api import names
from glm_operator.kube.read import GatewayPod
from glm_operator.plan.observed import GatewayReport, GatewayTier
from glm_operator.runtime.http import Http, NoAnswerError
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.queue import Key

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
TIMEOUT_SECONDS = 1.5
SILENT_AFTER = 3
"""Failures in a row that make a gateway a silent one."""
SILENT_SECONDS = 5.0
"""A silent gateway is asked this often."""
TICK_SECONDS = 0.1
"""How often is looked for gateways that are due."""
FORGET_SECONDS = 60.0
"""A gateway that was silent for longer is not reported at all; its pod may be gone."""


UNHEARD = GatewayReport(pod="", generation=0, age_seconds=0.0, heard=False)


class StateError(ValueError):
    """A gateway's `/state` is not of the agreed shape."""


@dataclass(slots=True)
class _Gateway:
    ip: str
    heard_at: float
    """When it last answered; when it was first seen, where it never has."""
    report: GatewayReport | None = None
    failures: int = 0
    """In a row."""
    due_at: float = -math.inf
    """When it is asked next; never while it is being asked."""


@dataclass(slots=True)
class _Watched:
    gateways: dict[str, _Gateway] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()
    asleep: frozenset[str] = frozenset()


def parse_state(raw: Any) -> GatewayReport:
    """A gateway's `/state`.

    Raises:
        StateError: a field is missing or of the wrong kind.
    """
    try:
        tiers = {name: _tier(tier) for name, tier in raw["tiers"].items()}
        return GatewayReport(
            pod=str(raw["pod"]),
            generation=int(raw["generation"]),
            age_seconds=0.0,
            tiers=tiers,
            locked=str(raw.get("apiKeys", {}).get("locked", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StateError(f"/state is not of the agreed shape: {error!r}") from error


def _tier(raw: Mapping[str, Any]) -> GatewayTier:
    replicas = raw["replicas"]
    return GatewayTier(
        arrivals=int(raw["arrivals"]),
        # Who was told to come again waits as well, though not on a connection; a gateway of an
        # earlier version does not count them.
        held=int(raw["held"]) + int(raw.get("expected", 0)),
        in_flight=int(raw["inFlight"]),
        replicas={name: int(one["inFlight"]) for name, one in replicas.items()},
        routable=frozenset(name for name, one in replicas.items() if one["routable"]),
    )


def is_urgent(
    before: GatewayReport | None,
    after: GatewayReport,
    asleep: Iterable[str],
    draining: frozenset[str],
) -> bool:
    """Whether a report calls for a pass now, not at the next tick.

    Work begins to be held for a tier that sleeps, a draining replica is free or let go, or the
    gateway is heard for the first time, has taken up another configuration, or lets nobody in
    or people in again.
    """
    if any(_held(after, tier) and not _held(before, tier) for tier in asleep):
        return True
    if draining and _on(before, draining) != _on(after, draining):
        return True
    if before is None:
        return True
    return (before.generation, before.locked) != (after.generation, after.locked)


def _held(report: GatewayReport | None, tier: str) -> int:
    found = report.tiers.get(tier) if report is not None else None
    return found.held if found is not None else 0


def _on(report: GatewayReport | None, pods: frozenset[str]) -> list[tuple[str, bool, bool]]:
    """(pod, busy, routable) of the given pods as one gateway sees them."""
    tiers = report.tiers.values() if report is not None else ()
    return sorted(
        (pod, bool(tier.replicas.get(pod)), pod in tier.routable)
        for tier in tiers
        for pod in pods & (tier.replicas.keys() | tier.routable)
    )


class GatewayPoller:
    """Keeps the last report of every gateway of every object.

    Args:
        http: asks pods.
        wake: told of a key that should be passed now.
        metrics: counts polls.
        monotonic: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        http: Http,
        wake: Callable[[Key], None],
        metrics: Metrics,
        *,
        monotonic: Callable[[], float],
    ) -> None:
        self._http = http
        self._wake = wake
        self._metrics = metrics
        self._monotonic = monotonic
        self._watched: dict[Key, _Watched] = {}

    def follow(
        self,
        key: Key,
        pods: Iterable[GatewayPod],
        *,
        draining: Iterable[str] = (),
        asleep: Iterable[str] = (),
    ) -> None:
        """Poll exactly these gateways of an object.

        Args:
            key: the object.
            pods: its gateways that run.
            draining: names of replicas whose last request is waited for.
            asleep: tiers without a replica, which held work must wake.
        """
        watched = self._watched.setdefault(key, _Watched())
        old = watched.gateways
        watched.gateways = {
            pod.name: old[pod.name]
            if pod.name in old and old[pod.name].ip == pod.ip
            else _Gateway(pod.ip, self._monotonic())
            for pod in pods
        }
        watched.draining = frozenset(draining)
        watched.asleep = frozenset(asleep)

    def forget(self, key: Key) -> None:
        """An object is gone."""
        self._watched.pop(key, None)

    def reports(self, key: Key) -> tuple[GatewayReport, ...]:
        """The last report of every gateway of an object, with its age.

        One that has not answered yet is reported as not heard: it is not the same as none.
        """
        watched = self._watched.get(key)
        if watched is None:
            return ()
        now = self._monotonic()
        return tuple(
            replace(gateway.report or UNHEARD, pod=name, age_seconds=now - gateway.heard_at)
            for name, gateway in sorted(watched.gateways.items())
            if now - gateway.heard_at < FORGET_SECONDS
        )

    async def run(self) -> None:
        """Poll for ever."""
        async with asyncio.TaskGroup() as polls:
            while True:
                for poll in self.due():
                    _ = polls.create_task(poll)
                await asyncio.sleep(TICK_SECONDS)

    def due(self) -> list[Coroutine[Any, Any, None]]:
        """The polls to be made now. None waits for another, and no gateway is asked twice at once.

        They need no limit: one small request for each gateway, where a limit would let those that
        are silent stand in the way of those that answer.
        """
        now = self._monotonic()
        polls = []
        for key, watched in self._watched.items():
            for name, gateway in watched.gateways.items():
                if gateway.due_at <= now:
                    gateway.due_at = math.inf
                    polls.append(self._poll(key, watched, name, gateway))
        return polls

    async def _poll(self, key: Key, watched: _Watched, name: str, gateway: _Gateway) -> None:
        # The moment of asking: what the report says may be that old.
        asked_at = self._monotonic()
        answered = False
        try:
            report = await self._ask(gateway)
            self._take(key, watched, gateway, report, asked_at)
            answered = True
        except (NoAnswerError, StateError) as error:
            logger.debug("gateway %s/%s: %s", key[0], name, error)
        except Exception:
            # One pod's answer must not end the polls of all.
            logger.exception("gateway %s/%s: the poll failed unexpectedly", key[0], name)
        self._metrics.gateway_polls.labels("answered" if answered else "failed").inc()
        gateway.failures = 0 if answered else gateway.failures + 1
        silent = gateway.failures >= SILENT_AFTER
        gateway.due_at = asked_at + (SILENT_SECONDS if silent else POLL_SECONDS)

    async def _ask(self, gateway: _Gateway) -> GatewayReport:
        url = f"http://{_host(gateway.ip)}:{names.GATEWAY_ADMIN_PORT}/state"
        status, raw = await self._http.get(url, TIMEOUT_SECONDS)
        if status != 200:
            raise StateError(f"/state answered {status}")
        return parse_state(raw)

    def _take(
        self,
        key: Key,
        watched: _Watched,
        gateway: _Gateway,
        report: GatewayReport,
        asked_at: float,
    ) -> None:
        urgent = is_urgent(gateway.report, report, watched.asleep, watched.draining)
        gateway.report, gateway.heard_at = report, asked_at
        if urgent and self._watched.get(key) is watched:
            self._wake(key)


def _host(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
