"""Times as text: seconds since the epoch to RFC 3339 and back."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(seconds: float) -> str:
    """RFC 3339 in UTC with whole seconds, as Kubernetes writes its own times."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_exact_text(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds, for times that are compared with a poll's."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_text(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time. Raises ValueError where it is none."""
    return datetime.fromisoformat(text).timestamp()
