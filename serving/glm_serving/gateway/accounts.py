"""What is written down of each request: metrics and one line of the access log."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from glm_serving.gateway.accesslog import AccessLog, Entry
from glm_serving.gateway.http import session_of, trace_of
from glm_serving.gateway.metrics import Metrics
from glm_serving.gateway.reasons import ErrorReason, Reason
from glm_serving.gateway.usage import Usage

if TYPE_CHECKING:
    from glm_serving.gateway.exchange import Exchange

NONE = "none"
"""The label where there is no tier, task or team."""
MAX_TEAMS = 100
"""Teams that metrics tell apart while the process runs; those that come later are `other`."""
OTHER_TEAM = "other"

RECENT = 50
"""Ended requests that are remembered for the page."""


class Accounts:
    """Writes to metrics and access log, and remembers the latest lines."""

    def __init__(self, metrics: Metrics, access_log: AccessLog) -> None:
        self._metrics = metrics
        self._log = access_log
        self._recent: deque[Entry] = deque(maxlen=RECENT)
        self._teams: set[str] = {NONE}

    @property
    def recent(self) -> list[Entry]:
        """The requests that ended last, the latest first; none that the gateway answered itself."""
        return list(reversed(self._recent))

    def exchange(self, exchange: Exchange, sent_bytes: int, usage: Usage | None) -> None:
        """A request that a tier was chosen for, or refused after its body was read."""
        entry = _entry(exchange)
        entry.sent_bytes = sent_bytes
        if exchange.held_seconds is not None:
            self._metrics.hold.observe(exchange.held_seconds, (exchange.tier,))
        if usage is not None:
            self._tokens(exchange, entry, usage)
        self._times(exchange, usage)
        self._recent.append(entry)
        self._count(entry, exchange.tier)

    def local(
        self,
        request_id: str,
        path: bytes,
        status: int,
        sent_bytes: int,
        reason: Reason | None = None,
        error: ErrorReason | None = None,
    ) -> None:
        """A request that the gateway answered by itself."""
        entry = Entry(time.time(), request_id, path.decode("latin-1"), status)
        entry.sent_bytes = sent_bytes
        entry.reason = reason.name if reason else ""
        entry.error = error.name if error else ""
        self._count(entry, NONE)

    def _tokens(self, exchange: Exchange, entry: Entry, usage: Usage) -> None:
        tier, team = exchange.tier, self._team_of(entry)
        source = "reported" if usage.reported else "estimated"
        entry.prompt_tokens, entry.completion_tokens = usage.prompt, usage.completion
        entry.token_source = source
        self._metrics.tokens.add((tier, "prompt", source, team), usage.prompt)
        self._metrics.tokens.add((tier, "completion", source, team), usage.completion)
        if exchange.facts is not None and exchange.facts.image_tokens:
            entry.image_tokens = exchange.facts.image_tokens
            # No engine reports them apart from the rest of the prompt.
            self._metrics.image_tokens.add((tier, "estimated", team), entry.image_tokens)

    def _team_of(self, entry: Entry) -> str:
        team = entry.team or NONE
        if team not in self._teams:
            if len(self._teams) > MAX_TEAMS:
                return OTHER_TEAM
            self._teams.add(team)
        return team

    def _times(self, exchange: Exchange, usage: Usage | None) -> None:
        """Of an answer that has begun; an inter-token time needs two tokens of a whole stream."""
        first, labels = exchange.first_token_seconds, (exchange.tier,)
        if first is None:
            return
        total = time.monotonic() - exchange.began
        self._metrics.first_token.observe(first, labels)
        self._metrics.duration.observe(total, labels)
        streamed = exchange.facts is not None and exchange.facts.stream
        if streamed and exchange.error is None and usage is not None and usage.completion > 1:
            self._metrics.inter_token.observe((total - first) / (usage.completion - 1), labels)

    def _count(self, entry: Entry, tier: str) -> None:
        labels = (tier, entry.task or NONE, entry.error or entry.reason, str(entry.status))
        self._metrics.requests.add(labels)
        self._metrics.bytes.add(("sent",), entry.sent_bytes)
        self._log.add(entry)


def _entry(exchange: Exchange) -> Entry:
    path = exchange.head.path.decode("latin-1")
    entry = Entry(time.time(), exchange.request_id, path, exchange.status)
    entry.replica, entry.attempts = exchange.replica_name, exchange.attempts
    entry.session = session_of(exchange.head)
    entry.trace = trace_of(exchange.head)
    entry.key, entry.team = exchange.head.key.name, exchange.head.key.team
    if exchange.held_seconds is not None:
        entry.held_milliseconds = round(exchange.held_seconds * 1000)
    entry.total_milliseconds = round((time.monotonic() - exchange.began) * 1000)
    if exchange.first_token_seconds is not None:
        entry.first_token_milliseconds = round(exchange.first_token_seconds * 1000)
    if exchange.error is not None:
        entry.error, entry.phase = exchange.error.name, exchange.ended_in.value
    if exchange.facts is not None and exchange.decision is not None:
        entry.model, entry.stream = exchange.facts.model, exchange.facts.stream
        entry.tier, entry.task = exchange.decision.tier, exchange.decision.task
        entry.reason, entry.rule = exchange.decision.reason.name, exchange.decision.rule
        entry.degraded = exchange.decision.degraded
    return entry
