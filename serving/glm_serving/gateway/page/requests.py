"""Requests on the page: those that wait or run now, and those that ended last."""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from glm_serving.gateway.accesslog import Entry
from glm_serving.gateway.page.markup import Column, Content, Markup, element, table
from glm_serving.gateway.reasons import DECISIONS, ERRORS

if TYPE_CHECKING:
    from glm_serving.gateway.exchange import Exchange

SHOWN = 50
"""Rows of a table at most, so that a storm does not make the page slow."""
_RUNNING = (
    Column("since", True),
    Column("id"),
    Column("phase"),
    Column("tier"),
    Column("replica"),
    Column("decision"),
    Column("task"),
    Column("prompt", True),
    Column("images", True),
)
_RECENT = (
    Column("UTC"),
    Column("id"),
    Column("key"),
    Column("model"),
    Column("task"),
    Column("decision"),
    Column("tier"),
    Column("replica"),
    Column("status", True),
    Column("held ms", True),
    Column("first ms", True),
    Column("total ms", True),
    Column("prompt", True),
    Column("answer", True),
)


def running_table(exchanges: Collection[Exchange], now: float) -> Markup:
    """The requests that are not over, the oldest first; `now` is of the monotonic clock."""
    oldest = heapq.nsmallest(SHOWN, exchanges, key=lambda exchange: exchange.began)
    return table(_RUNNING, (_running(exchange, now) for exchange in oldest), "None.")


def _running(exchange: Exchange, now: float) -> Sequence[Content]:
    decision, facts = exchange.decision, exchange.facts
    return (
        f"{now - exchange.began:.1f} s",
        element("code", exchange.request_id),
        element("span", exchange.phase.value, class_=exchange.phase.value),
        exchange.tier,
        element("code", exchange.replica_name),
        _reason(decision.reason.name) if decision else None,
        decision.task if decision else None,
        f"{facts.prompt_tokens:,}" if facts else None,
        facts.images if facts else None,
    )


def recent_table(entries: Iterable[Entry]) -> Markup:
    """The requests that ended last, the latest first."""
    return table(_RECENT, (_recent(entry) for entry in entries), "None yet.")


def _recent(entry: Entry) -> Sequence[Content]:
    return (
        time.strftime("%H:%M:%S", time.gmtime(entry.time)),
        element("code", entry.id),
        entry.key,
        entry.model,
        entry.task,
        _reason(entry.reason),
        entry.tier,
        element("code", entry.replica),
        _status(entry),
        entry.held_milliseconds,
        entry.first_token_milliseconds,
        entry.total_milliseconds,
        _tokens(entry.prompt_tokens),
        _tokens(entry.completion_tokens),
    )


def _reason(name: str) -> Markup | str:
    """The name of a decision with its sentence; a rule of the object has none."""
    known = DECISIONS.get(name)
    return element("abbr", name, title=known.sentence) if known else name


def _status(entry: Entry) -> Markup | int:
    if not entry.error:
        return entry.status
    known = ERRORS.get(entry.error)
    said = element("abbr", f"{entry.status} {entry.error}", title=known.sentence if known else "")
    return element("span", said, class_="error")


def _tokens(count: int | None) -> str | None:
    return None if count is None else f"{count:,}"
