"""One request from its last byte to the last byte of its answer: a state machine of callbacks."""

from __future__ import annotations

import enum
import time
from typing import TYPE_CHECKING

from glm_serving.gateway import dialects
from glm_serving.gateway.answer import Answer
from glm_serving.gateway.attempt import Attempt
from glm_serving.gateway.bodies import Body
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.decide import Decision
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.failover import Cause, Tries, Verdict, engine_died
from glm_serving.gateway.http import RequestHead
from glm_serving.gateway.quotas import Charge
from glm_serving.gateway.reasons import (
    CLIENT_CLOSED,
    FIRST_TOKEN_TIMEOUT,
    REQUEST_KILLS_ENGINE,
    SHUTTING_DOWN,
    STREAM_BROKEN,
    TIER_REMOVED,
    TOTAL_TIMEOUT,
    UPSTREAM_FAILED,
    ErrorReason,
)
from glm_serving.gateway.timelimits import Stopwatch
from glm_serving.gateway.waiting import Wait

if TYPE_CHECKING:
    from glm_serving.gateway.gateway import Gateway
    from glm_serving.gateway.pools import Pool

_UNAVAILABLE = frozenset({502, 503})


class Phase(enum.StrEnum):
    """Where a request stands; the label of aborts."""

    NEW = "new"
    HELD = "held"
    CONNECTING = "connecting"
    WAITING = "waiting"
    """Sent; no byte of the response's body yet. Until then another replica may answer."""
    RELAYING = "relaying"
    DONE = "done"


class Exchange:
    """Holds, sends, resends and relays one request.

    Whatever happens, the replica's count, the body's bytes and the place in the queue are given
    back exactly once, and exactly one access-log line is written.
    """

    def __init__(
        self, gateway: Gateway, client: ClientConnection, head: RequestHead, request_id: str
    ) -> None:
        self._gateway = gateway
        self._client = client
        self.head = head
        self.dialect = dialects.of(head.path)
        self._clock = gateway.clock
        self._attempt: Attempt | None = None
        self._wait: Wait | None = None
        self._waits_since: float | None = None
        """Since when a request waits that comes again; None: it comes for the first time."""
        self._tries = Tries()
        self._stopwatch = Stopwatch(self._clock())
        self._renewed = False
        self._replied: tuple[int, dict[bytes, bytes]] | None = None
        """Status and headers of the replica, which wait for the first byte of the body."""
        self.answer = Answer(client, self.dialect)
        self._pool: Pool | None = None
        self.request_id = request_id
        self.body: Body = b""
        self.began = time.monotonic()
        self.phase = Phase.NEW
        self.ended_in = Phase.NEW
        self.facts: Facts | None = None
        self.decision: Decision | None = None
        self.charge: Charge | None = None
        """What its key was charged."""
        self.replica_name = ""
        self.attempts = 0
        self.first_token_seconds: float | None = None
        self.status = 0
        self.error: ErrorReason | None = None

    @property
    def tier(self) -> str:
        """The chosen tier, or `none`."""
        return self.decision.tier if self.decision else "none"

    @property
    def held_seconds(self) -> float | None:
        """How long it waited for a replica; None where one was there at once."""
        return self._wait.seconds if self._wait is not None and self._wait.entered else None

    # --- choosing

    def begin(self, body: Body) -> None:
        """Decide and send, or hold. Takes over the body and its reserved bytes."""
        self._client.answerer = self
        self.body = body
        if self._refused_as_poison():
            return
        try:
            self.facts, self.decision = self._gateway.judge(self.head, body)
            self.charge = self._gateway.charge(self.head.key, self.facts)
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self._pool = self._gateway.pools[self.decision.tier]
        # What another tier serves is still wanted of the chosen one: it may have to wake up.
        chosen = self._gateway.pools[self.decision.chosen]
        self._waits_since = chosen.came(self.head, self.body, self.facts)
        if self.decision.wanted:
            chosen.passed_by(self.head, self.body)
        if self.decision.hold:
            self._hold()
        else:
            self._place()

    def _place(self, released: bool = False) -> None:
        """Send to a replica, or hold until one has room; `released` ones have waited for it."""
        assert self._pool is not None
        if self._refused_as_poison():
            return
        replica = self._pool.choose(self._clock(), self._tries.tried, released)
        if replica is None and self._wait is None and self._take_spare():
            self._place()
            return
        if replica is None:
            self._hold()
            return
        self.phase = Phase.CONNECTING
        self.attempts += 1
        self._attempt = Attempt(self, self._gateway, self._pool, replica)
        self._attempt.start()

    def _take_spare(self) -> bool:
        """Go to another tier that serves, if the object allows it; whether there is one."""
        assert self.decision is not None
        spares = {pool.tier.name: pool for pool in self._gateway.pools if not pool.retired}
        now = self._clock()
        for name in self.decision.spares:
            pool = spares.get(name)
            if pool is not None and pool.tier.serving(now) and not pool.queue:
                self.decision, self._pool = self.decision.moved_to(name), pool
                return True
        return False

    def _refused_as_poison(self) -> bool:
        """Whether replicas died of this very body, maybe while this copy of it waited."""
        try:
            self._gateway.refused_bodies.check(self.body, self._clock())
        except Refusal as refusal:
            self.refuse(refusal)
            return True
        return False

    def _hold(self) -> None:
        assert self._pool is not None
        if self._wait is None:
            self._wait = Wait(self, self._pool, self._gateway, self._waits_since)
        try:
            self._wait.enter()
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.phase = Phase.HELD

    def _stop_waiting(self) -> None:
        if self._wait is not None:
            self._wait.over()

    def open_stream(self) -> None:
        """Begin the answer of a held stream before a replica is there."""
        self.answer.open(self._own_headers())

    def released(self) -> None:
        """A replica of the tier may be ready."""
        if self.phase is Phase.HELD:
            self._place(released=True)

    def shut_down(self) -> None:
        """The time to finish is over: say so."""
        self.fail(Refusal(SHUTTING_DOWN))

    def tier_removed(self) -> None:
        """The tier is no longer configured: a request that waits for it cannot be served."""
        if self.phase is Phase.HELD:
            self.refuse(Refusal(TIER_REMOVED))

    # --- what comes of an attempt

    def attempt_sent(self) -> str:
        """The request goes out now; returns its id at the replica."""
        self.phase = Phase.WAITING
        self._tries.sends += 1
        self._stopwatch.sent(self._clock())
        return f"{self.request_id}-{self.attempts}"

    def attempt_failed(self, cause: Cause) -> None:
        """The replica did not answer: let it rest and choose again, within bounds."""
        assert self._attempt is not None
        replica = self._attempt.replica
        self._replied = None
        self._close_attempt()
        self._gateway.pools.replica_failed(replica, hung=cause is Cause.TIMEOUT)
        verdict = self._tries.failed(replica.name, cause, leaving=not replica.routable)
        if verdict is Verdict.KILLS_ENGINE:
            self._gateway.refused_bodies.add(self.body, self._clock())
            self.refuse(Refusal(REQUEST_KILLS_ENGINE))
        elif verdict is Verdict.SPENT or (cause is not Cause.CONNECT and not self._gateway.retry()):
            late = cause is Cause.TIMEOUT
            message = "" if late else f"{replica.name} failed ({cause}) before its first byte"
            self.refuse(Refusal(FIRST_TOKEN_TIMEOUT if late else UPSTREAM_FAILED, message))
        else:
            self._gateway.metrics.retries.add((self.tier, cause.value))
            self._place()

    def _close_attempt(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.close()

    # --- relaying (called by the upstream connection)

    def upstream_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The replica answers. Nothing is passed on before its body begins: it may still fail."""
        if status in _UNAVAILABLE:
            self.attempt_failed(Cause.STATUS)
        else:
            self._replied = status, headers

    def upstream_body(self, data: bytes, last: bool) -> None:
        """Pass on some bytes."""
        if self.phase is Phase.WAITING and not self._begin_answer(data):
            return
        self.answer.push(data, last)

    def _begin_answer(self, data: bytes) -> bool:
        """Start the client's answer with its first bytes; False when they tell of a dead engine."""
        assert self._attempt is not None
        assert self._replied is not None
        self.status, headers = self._replied
        streamed = headers.get(b"content-type", b"").startswith(b"text/event-stream")
        if engine_died(self.status, streamed, data):
            self.attempt_failed(Cause.LOST)
            return False
        self.first_token_seconds = time.monotonic() - self.began
        self.phase = Phase.RELAYING
        self._release_body()
        self._stop_waiting()
        replica = self._attempt.replica
        if replica.answered(self._clock()):
            self._gateway.pools.kick(replica)
        assert self._pool is not None
        self._gateway.pools.answered(self._pool, replica)
        self.answer.begin(self.status, self._own_headers() | headers, streamed)
        if self._client.stalled:
            self._attempt.pause()
        return True

    def upstream_end(self) -> None:
        """The answer is complete."""
        if self.phase is Phase.WAITING and not self._begin_answer(b""):
            return
        if not self.answer.complete():
            self._break(self.answer.late_refusal() or Refusal(STREAM_BROKEN))
            return
        attempt, self._attempt = self._attempt, None
        assert attempt is not None
        attempt.answered()
        self._finish()
        self._client.end()

    def upstream_lost(self, reused: bool, sent: bool) -> None:
        """The connection broke."""
        if self.phase is Phase.RELAYING:
            self._break(Refusal(STREAM_BROKEN))
        elif reused and self._replied is None and self._renew():
            self._gateway.metrics.retries.add((self.tier, Cause.STALE.value))
        else:
            self.attempt_failed(Cause.LOST if sent else Cause.UNSENT)

    def _renew(self) -> bool:
        """Send once more to the same replica: it may only have closed an idle connection."""
        assert self._attempt is not None
        if self._renewed:
            return False
        self._renewed = True
        self.phase = Phase.CONNECTING
        self._attempt.renew()
        return True

    def _break(self, refusal: Refusal) -> None:
        """End an answer that has begun so that nobody takes it for complete."""
        self.error = refusal.reason
        self._stop_waiting()
        self.answer.say(refusal)
        self._close_attempt()
        self._finish()
        self._client.cut()

    # --- the client's side

    def client_gone(self) -> None:
        """The client left: abort at the engine, or leave the queue."""
        if self.phase is Phase.DONE:
            return
        self._gateway.metrics.aborts.add((self.tier, self.phase.value))
        self.error = CLIENT_CLOSED
        self.status = self.status or CLIENT_CLOSED.status
        if self._wait is not None:
            self._wait.abandon()
        self._close_attempt()
        self._finish()

    def client_paused(self) -> None:
        """Read no more from the replica than the client takes."""
        if self._attempt is not None and self.phase is Phase.RELAYING:
            self._attempt.pause()

    def client_resumed(self) -> None:
        """Read on."""
        if self._attempt is not None:
            self._attempt.resume()

    # --- time limits

    def sweep(self, now: float) -> None:
        """Enforce the time limits; called about once a second."""
        limits, stopwatch = self._gateway.config.limits, self._stopwatch
        if self.phase is Phase.WAITING:
            streamed = self.facts is not None and self.facts.stream
            reason = stopwatch.waited_too_long(now, limits, streamed)
        elif self.phase is Phase.RELAYING:
            sent, stalled = self._client.sent_bytes, self._client.stalled
            reason = stopwatch.paused_too_long(now, limits, sent, stalled)
        else:
            reason = stopwatch.total(now, limits)
        if reason is not None:
            self._out_of_time(reason)

    def _out_of_time(self, reason: ErrorReason) -> None:
        hung = reason is not TOTAL_TIMEOUT and self._replica_is_silent()
        if hung and reason is FIRST_TOKEN_TIMEOUT:
            self.attempt_failed(Cause.TIMEOUT)
            return
        if hung and self._attempt is not None:
            self._gateway.pools.replica_failed(self._attempt.replica, hung=True)
        self.fail(Refusal(reason))

    def _replica_is_silent(self) -> bool:
        """Whether it began no answer since this request last moved: else it is busy, not ill."""
        assert self._attempt is not None
        return self._attempt.replica.answered_at <= self._stopwatch.moved

    # --- ending

    def fail(self, refusal: Refusal) -> None:
        """Give up, with an error if the answer has not begun."""
        if self.phase is Phase.RELAYING:
            self._break(refusal)
        elif self.phase is not Phase.DONE:
            self.refuse(refusal)

    def refuse(self, refusal: Refusal) -> None:
        """Answer with an error instead of a replica."""
        self.error = refusal.reason
        self.status = refusal.reason.status
        if self.answer.opened:
            self._break(refusal)
            return
        self._stop_waiting()
        self._close_attempt()
        headers = self._own_headers()
        self._finish()
        self._client.refuse(refusal, headers)

    def _own_headers(self) -> dict[bytes, bytes]:
        headers = self.dialect.headers(self.request_id)
        if self.decision is not None:
            headers |= self.decision.headers()
        if self._attempt is not None:
            self.replica_name = self._attempt.replica.name
            headers[b"x-glm-replica"] = self.replica_name.encode("latin-1")
        return headers

    def _release_body(self) -> None:
        self._gateway.give_bytes(len(self.body))
        self.body = b""

    def _finish(self) -> None:
        """Account for the request, once."""
        phase, self.phase = self.phase, Phase.DONE
        self.ended_in = phase
        self._client.answerer = None
        self._release_body()
        used = None
        if phase is Phase.RELAYING and self.status == 200 and self.facts is not None:
            used = self.answer.usage(self.facts)
        self._gateway.finished(self, self._client.sent_bytes, used)
