"""The last word of a task: JSON that the kubelet reads from the container."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from glm_serving.weights.errors import WeightsError

VERSION = 1
MAX_BYTES = 4000
"""The kubelet keeps 4096."""
MAX_MESSAGE = 200
"""Characters that stay of a message that is too long; JSON makes twelve bytes of some."""
DONE, TRANSIENT, PERMANENT = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Result:
    """How a task ended."""

    exit_code: int = DONE
    reason: str = ""
    message: str = ""
    file: str = ""
    bytes: int = 0
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: WeightsError, seconds: float) -> Self:
        """Of a task that failed."""
        code = TRANSIENT if error.transient else PERMANENT
        return cls(code, error.reason, str(error), error.file, seconds=seconds)

    def to_text(self) -> str:
        """The JSON, in at most MAX_BYTES: patterns of layers go first, then the message's end."""
        text = self._whole()
        if len(text.encode()) <= MAX_BYTES:
            return text
        shorter = replace(self, message=self.message[:MAX_MESSAGE], facts=_lean(self.facts))
        return shorter._whole()

    def _whole(self) -> str:
        data = {
            "version": VERSION,
            "outcome": "Failed" if self.reason else "Done",
            "reason": self.reason,
            "message": self.message,
            "file": self.file,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
            "facts": self.facts,
        }
        return json.dumps(data, separators=(",", ":"))


def _lean(facts: Mapping[str, Any]) -> dict[str, Any]:
    quantization = facts.get("quantization")
    if not quantization:
        return dict(facts)
    return {**facts, "quantization": {**quantization, "ignore": []}}
