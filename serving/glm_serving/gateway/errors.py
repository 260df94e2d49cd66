"""Errors in the dialect of the OpenAI API."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.reasons import ErrorReason

MAX_RETRY_AFTER_SECONDS = 120
"""Above this the openai package does not honour `Retry-After` and retries at once."""


class ConfigError(Exception):
    """The gateway's configuration cannot be used; the message names field, value and way out."""


class Refusal(Exception):
    """A request that the gateway answers itself with an error.

    `param` is the offending field; `wait_seconds` the true estimate of when to come back.
    """

    def __init__(
        self,
        reason: ErrorReason,
        message: str = "",
        param: str | None = None,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(message or reason.sentence)
        self.reason = reason
        self.param = param
        self.wait_seconds = wait_seconds

    @property
    def retry_after(self) -> int | None:
        """Whole seconds for the header, 1 to 120; None where a retry changes nothing."""
        if self.wait_seconds is None:
            return 1 if self.reason.status in {429, 503} else None
        return max(1, min(MAX_RETRY_AFTER_SECONDS, round(self.wait_seconds)))


def body(refusal: Refusal) -> bytes:
    """The error object of OpenAI's API; `code` is the reason."""
    error: dict[str, object] = {
        "message": str(refusal),
        "type": refusal.reason.type,
        "param": refusal.param,
        "code": refusal.reason.name,
    }
    if refusal.wait_seconds is not None:
        error["estimated_wait_seconds"] = round(refusal.wait_seconds, 1)
    return msgspec.json.encode({"error": error})


def event(refusal: Refusal) -> bytes:
    """The same object as one server-sent event: the openai package raises APIError on it."""
    return b"data: " + body(refusal) + b"\n\n"
