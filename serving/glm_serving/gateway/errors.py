"""What the gateway raises: a configuration it cannot use, a request it refuses."""

from __future__ import annotations

import math
from collections.abc import Mapping

from glm_serving.gateway.reasons import ErrorReason


class ConfigError(Exception):
    """The gateway's configuration cannot be used; the message names field, value and way out."""


class Refusal(Exception):
    """A request that the gateway answers itself with an error, in the dialect of its path.

    `param` is the offending field; `wait_seconds` the true estimate of when to come back, and
    `retry_seconds` a guess for the header alone where there is none; `headers` go with the answer.
    """

    def __init__(
        self,
        reason: ErrorReason,
        message: str = "",
        param: str | None = None,
        wait_seconds: float | None = None,
        retry_seconds: float = 1.0,
        headers: Mapping[bytes, bytes] | None = None,
    ) -> None:
        super().__init__(message or reason.sentence)
        self.reason = reason
        self.param = param
        self.wait_seconds = wait_seconds
        self._retry_seconds = retry_seconds
        self.headers = headers or {}

    def retry_after(self, most: int) -> int | None:
        """Whole seconds for the header, 1 to `most`; None where a retry changes nothing."""
        if self.wait_seconds is None and self.reason.status not in {429, 503}:
            return None
        seconds = self._retry_seconds if self.wait_seconds is None else self.wait_seconds
        return max(1, min(most, math.ceil(seconds)))
