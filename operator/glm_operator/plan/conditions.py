"""Conditions of the status: one sentence each, and a transition time that tells the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glm_operator.plan import times

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
MESSAGE_LIMIT = 32_768
"""Characters of a condition's message in the schema: with more the whole status would be refused.
Schedulers and webhooks, whose words a message repeats, know no limit."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as decided now. The message has no times and no counters of events."""

    type: str
    status: str
    reason: str
    message: str


def render(
    conditions: Iterable[Condition],
    stored: Sequence[Mapping[str, Any]],
    generation: int,
    now: float,
) -> list[dict[str, Any]]:
    """The conditions for the status; `lastTransitionTime` moves only when `status` flips."""
    before = {item.get("type"): item for item in stored}
    return [_render(one, before.get(one.type, {}), generation, now) for one in conditions]


def _render(
    one: Condition, before: Mapping[str, Any], generation: int, now: float
) -> dict[str, Any]:
    kept = before.get("lastTransitionTime") if before.get("status") == one.status else None
    return {
        "type": one.type,
        "status": one.status,
        "reason": one.reason,
        "message": shorten(one.message, MESSAGE_LIMIT),
        "observedGeneration": generation,
        "lastTransitionTime": kept or times.to_text(now),
    }


def shorten(text: str, limit: int) -> str:
    """The text, its end replaced by dots where it has more than `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
