"""A conversation as all dialects tell it: turns with texts, media, calls and results."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.facts.media import Medium

SYSTEM = "system"
USER = "user"
ASSISTANT = "assistant"
TOOL = "tool"


class Call(msgspec.Struct, frozen=True):
    """A call of a tool; its arguments in one spelling, so that equal ones are equal texts."""

    id: str
    name: str
    arguments: str


class Turn(msgspec.Struct):
    """One message. The result of a tool is a turn of its own, whatever message it came in."""

    role: str
    texts: list[str] = []
    media: list[Medium] = []
    calls: list[Call] = []
    reasoning: str = ""
    answers: str = ""
    """The call whose result this is."""


class Tool(msgspec.Struct, frozen=True):
    """A function that is offered."""

    name: str
    description: str = ""
    schema: str = ""
    """JSON, as it was sent."""


class Request(msgspec.Struct):
    """What one dialect says of a request, in common words."""

    model: str
    turns: list[Turn]
    tools: list[Tool]
    stream: bool = False
    max_tokens: int = 0
    choices: int = 1
    tool_choice: str = ""
    response_format: str = ""
    thinking: bool | None = None
    session: str = ""
    """The name that the body gives to its conversation."""


_any = msgspec.json.Decoder()
_sorted = msgspec.json.Encoder(order="deterministic")


def arguments(text: bytes | str) -> str:
    """Arguments of a call, however they are spelled, in one spelling.

    What is no JSON stays as it is: engines repair or refuse it.
    """
    try:
        return _sorted.encode(_any.decode(text)).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return text if isinstance(text, str) else text.decode("utf-8", "replace")
