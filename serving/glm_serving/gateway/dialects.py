"""What differs from one API to another: errors, ends of streams, and where tokens are reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from glm_serving.gateway import usage
from glm_serving.gateway.errors import Refusal


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one API says what the gateway says by itself, and how engines end a stream of it."""

    error: Callable[[Refusal, str | None], dict[str, object]]
    """The object that tells of a refusal, for a field at fault."""
    event: Callable[[Refusal, usage.Tail], bytes]
    """The same inside a stream that passed so far: the API's package raises on it."""
    ends: tuple[bytes, ...]
    """What stands at the end of a complete stream, or of one that the engine itself broke off."""
    token_event: bytes
    """Marks the events that carry about one token each."""
    opening_events: int
    """Events with this mark before the first that carries a token."""
    counts: usage.Counts
    max_retry_after_seconds: int
    """Above this the API's package does not honour `Retry-After` and retries at once."""
    id_headers: tuple[bytes, ...] = (b"x-request-id",)
    """The headers in which the API's package looks for the request's id."""
    conversation: str = "messages"
    """The field with the conversation; a decision knows no API and calls it `messages`."""

    def tokens(self, marked: int) -> int:
        """Tokens in a stream with so many marked events."""
        return max(marked - self.opening_events, 0)

    def body(self, refusal: Refusal) -> bytes:
        """The body of an answer that refuses."""
        param = self.conversation if refusal.param == "messages" else refusal.param
        return msgspec.json.encode(self.error(refusal, param))

    def headers(self, request_id: str) -> dict[bytes, bytes]:
        """The headers that name a request."""
        return dict.fromkeys(self.id_headers, request_id.encode("latin-1"))


def _details(refusal: Refusal, kind: str, param: str | None) -> dict[str, object]:
    """The error object; `code` is the reason in every dialect."""
    error: dict[str, object] = {
        "message": str(refusal),
        "type": kind,
        "param": param,
        "code": refusal.reason.name,
    }
    if refusal.wait_seconds is not None:
        error["estimated_wait_seconds"] = round(refusal.wait_seconds, 1)
    return error


def _openai_error(refusal: Refusal, param: str | None) -> dict[str, object]:
    return {"error": _details(refusal, refusal.reason.type, param)}


def _openai_event(refusal: Refusal, tail: usage.Tail) -> bytes:
    return b"data: " + msgspec.json.encode(_openai_error(refusal, refusal.param)) + b"\n\n"


def _responses_event(refusal: Refusal, tail: usage.Tail) -> bytes:
    """The API's `error` event has its fields at the top; the openai package raises on `error`."""
    event = {
        "type": "error",
        "sequence_number": tail.events(),
        "code": refusal.reason.name,
        "message": str(refusal),
        "param": refusal.param,
    } | _openai_error(refusal, refusal.param)
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""Status -> type, from https://docs.anthropic.com/en/api/errors, which says 529 for overloaded."""


def _anthropic_error(refusal: Refusal, param: str | None) -> dict[str, object]:
    status = refusal.reason.status
    other = "api_error" if status >= 500 else "invalid_request_error"
    kind = _ANTHROPIC_TYPES.get(status, other)
    return {"type": "error", "error": _details(refusal, kind, param)}


def _anthropic_event(refusal: Refusal, tail: usage.Tail) -> bytes:
    data = msgspec.json.encode(_anthropic_error(refusal, refusal.param))
    return b"event: error\ndata: " + data + b"\n\n"


CHAT = Dialect(
    error=_openai_error,
    event=_openai_event,
    ends=(b"data: [DONE]",),
    token_event=b"data: {",
    opening_events=1,
    counts=usage.CHAT,
    max_retry_after_seconds=120,
)
"""Chat completions, and what has no dialect of its own: models, unknown paths."""
COMPLETIONS = Dialect(
    error=_openai_error,
    event=_openai_event,
    ends=(b"data: [DONE]",),
    token_event=b"data: {",
    opening_events=0,
    counts=usage.CHAT,
    max_retry_after_seconds=120,
    conversation="prompt",
)
RESPONSES = Dialect(
    error=_openai_error,
    event=_responses_event,
    ends=(
        b'"type":"response.completed"',
        b'"type":"response.incomplete"',
        b'"type":"response.failed"',
        # The last event repeats the whole answer, and not every engine puts its type behind it.
        b'"usage":{',
    ),
    token_event=b".delta\ndata: ",
    opening_events=0,
    counts=usage.RESPONSES,
    max_retry_after_seconds=120,
    conversation="input",
)
MESSAGES = Dialect(
    error=_anthropic_error,
    event=_anthropic_event,
    ends=(b"event: message_stop", b"event: error"),
    token_event=b"event: content_block_delta\n",
    opening_events=0,
    counts=usage.MESSAGES,
    max_retry_after_seconds=60,
    id_headers=(b"x-request-id", b"request-id"),
)
"""Anthropic's. An engine that fails inside a stream ends it with an error event alone."""

_MESSAGES_PATH = b"/v1/messages"
_OF_PATH = {b"/v1/completions": COMPLETIONS, b"/v1/responses": RESPONSES}


def of(path: bytes) -> Dialect:
    """The dialect of a path, also of one that is not served."""
    if path.startswith(_MESSAGES_PATH):
        return MESSAGES
    return _OF_PATH.get(path, CHAT)
