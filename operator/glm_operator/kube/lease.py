"""A Lease of coordination.k8s.io: one operator writes at a time.

Whether another holder's lease has run out is judged by our own clock since we first saw its
present renewal, so that clocks of different machines are never compared (as client-go does).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random as random_module
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from glm_operator.kube.client import Cluster
from glm_operator.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    KubeError,
    LeaseLostError,
    NotFoundError,
)
from glm_operator.kube.resources import LEASE
from glm_operator.kube.retry import Random
from glm_operator.plan import times

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Who asks for which Lease, and its times in seconds."""

    namespace: str
    identity: str
    """The pod's name: a container that was restarted takes its own lease up at once."""
    name: str = "glm-operator"
    duration_seconds: float = 15.0
    """After this without a renewal somebody else may take it."""
    deadline_seconds: float = 10.0
    """After this without a renewal we stop writing: well before anybody else may begin."""
    retry_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class _Seen:
    holder: str
    renewed: str
    at: float


class Lease:
    """One process's view of the Lease.

    Args:
        cluster: the API server; not fenced by this Lease.
        settings: who we are.
        monotonic: a clock that never goes back, in seconds.
        wall: seconds since the epoch, written for people to read.
        random: returns a number in [0, 1).
        sleep: waits; replaced in tests.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: LeaseSettings,
        *,
        monotonic: Callable[[], float],
        wall: Callable[[], float],
        random: Random = random_module.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._monotonic = monotonic
        self._wall = wall
        self._random = random
        self._sleep = sleep
        self._seen: _Seen | None = None
        self._renewed_at: float | None = None

    def is_held(self) -> bool:
        """Whether this process may write now."""
        if self._renewed_at is None:
            return False
        return self._monotonic() - self._renewed_at < self._settings.deadline_seconds

    def fence(self) -> None:
        """Called before every write.

        Raises:
            LeaseLostError: this process was silent for too long, for example suspended.
        """
        if not self.is_held():
            raise LeaseLostError(
                f"the Lease {self._settings.name} was not renewed within "
                f"{self._settings.deadline_seconds:g} s: another operator may be at work"
            )

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._tried():
            await self._sleep(self._settings.retry_seconds * (1 + 0.2 * self._random()))
        logger.info("holding the Lease %s as %s", self._settings.name, self._settings.identity)

    async def keep(self) -> None:
        """Renew until it is lost.

        Raises:
            LeaseLostError: always, in the end.
        """
        while True:
            await self._sleep(self._settings.retry_seconds)
            held = await self._tried()
            if not held and self._seen is not None and self._seen.holder != self._me:
                self._renewed_at = None
            self.fence()

    async def release(self) -> None:
        """Give it back, so that a successor need not wait."""
        if not self.is_held():
            return
        try:
            live = await self._cluster.get(LEASE, self._settings.namespace, self._settings.name)
            if live.get("spec", {}).get("holderIdentity") == self._me:
                await self._cluster.update(self._manifest(live, holder=""))
        except KubeError as error:
            logger.warning("the Lease was not given back, a successor waits for it: %s", error)
        self._renewed_at = None

    @property
    def _me(self) -> str:
        return self._settings.identity

    async def _tried(self) -> bool:
        """One attempt to take or renew; a failing API server is no loss yet."""
        # Taken before the call: what the server wrote is at most this old.
        started = self._monotonic()
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                held = await self._take_or_renew()
        except (AlreadyExistsError, ConflictError):
            return False
        except (KubeError, TimeoutError) as error:
            logger.warning("Lease %s: %s", self._settings.name, error)
            return False
        if held:
            self._renewed_at = started
        return held

    async def _take_or_renew(self) -> bool:
        try:
            live = await self._cluster.get(LEASE, self._settings.namespace, self._settings.name)
        except NotFoundError:
            await self._cluster.create(self._manifest({}, holder=self._me))
            return True
        if not self._may_take(live):
            return False
        await self._cluster.update(self._manifest(live, holder=self._me))
        return True

    def _may_take(self, live: Mapping[str, Any]) -> bool:
        spec = live.get("spec") or {}
        holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime") or ""
        if self._seen is None or (self._seen.holder, self._seen.renewed) != (holder, renewed):
            self._seen = _Seen(holder, renewed, self._monotonic())
        if holder in ("", self._me):
            return True
        duration = float(spec.get("leaseDurationSeconds") or self._settings.duration_seconds)
        return self._monotonic() - self._seen.at >= duration

    def _manifest(self, live: Mapping[str, Any], holder: str) -> dict[str, Any]:
        """The Lease as it should be; `live` carries the resourceVersion that guards it."""
        before = live.get("spec") or {}
        now = times.to_exact_text(self._wall())
        changed = before.get("holderIdentity") != holder
        metadata = dict(live.get("metadata") or {})
        metadata.pop("managedFields", None)
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                **metadata,
                "name": self._settings.name,
                "namespace": self._settings.namespace,
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": math.ceil(self._settings.duration_seconds),
                "acquireTime": now if changed else before.get("acquireTime") or now,
                "renewTime": now,
                "leaseTransitions": int(before.get("leaseTransitions") or 0) + int(changed),
            },
        }
