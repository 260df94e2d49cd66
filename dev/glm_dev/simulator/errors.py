"""vLLM's error bodies: `{"error": {"message", "type", "param", "code"}}`.

Shapes and sentences: vLLM 0.32, entrypoints/serve and entrypoints/openai.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Self

BUSY = (
    "The engine is currently busy and cannot accept new requests. "
    "Please try again later or on a different instance."
)
ENGINE_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class ApiError(Exception):
    """An answer that is not 200, in vLLM's dialect."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.param = param

    @classmethod
    def bad_request(cls, message: str, param: str | None = None, value: int | None = None) -> Self:
        """The request itself is at fault."""
        shown = "" if value is None else f", value={value}"
        suffix = f" (parameter={param}{shown})" if param else ""
        return cls(400, "BadRequestError", f"{message}{suffix}", param)

    @classmethod
    def wrong_type(cls, where: str, wanted: str, value: Any) -> Self:
        """A field of the body has another type, in the words of vLLM's validator."""
        fault = {"loc": where, "msg": f"Input should be {wanted}", "input": value}
        return cls(400, "Bad Request", f"1 validation error:\n  {fault}", where)

    @classmethod
    def not_json(cls) -> Self:
        """The content type is not JSON's."""
        message = (
            "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        )
        return cls(400, "Bad Request", message)

    @classmethod
    def json_invalid(cls, position: int, words: str) -> Self:
        """The body is not JSON."""
        where = f"body.{position}"
        fault = {"type": "json_invalid", "loc": where, "msg": "JSON decode error"}
        message = f"1 validation error:\n  {fault | {'ctx': {'error': words}}}"
        return cls(400, "Bad Request", message, where)

    @classmethod
    def no_model(cls, name: str, served: tuple[str, ...]) -> Self:
        """The client named a model that is not served here."""
        aliases = ", ".join(served)
        message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
        return cls(404, "NotFoundError", message, "model")

    @classmethod
    def plain(cls, status: int, message: str = "") -> Self:
        """An answer whose type is the status' own phrase."""
        phrase = HTTPStatus(status).phrase
        return cls(status, phrase, message or phrase)

    @classmethod
    def dead(cls) -> Self:
        """The engine core is gone."""
        return cls(500, "InternalServerError", ENGINE_DEAD)

    def body(self) -> dict[str, Any]:
        """The JSON value of the answer."""
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        return {"error": error}
