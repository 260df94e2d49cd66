"""Facts of a chat completion."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.config import Media
from glm_serving.gateway.facts import parts, session
from glm_serving.gateway.facts.conversation import SYSTEM, Call, Request, Tool, Turn, arguments
from glm_serving.gateway.facts.decoding import (
    ABSENT,
    Scalar,
    count,
    decode,
    flag,
    lenient,
    text_of,
)
from glm_serving.gateway.facts.media import INLINE_ONLY, MediaReader
from glm_serving.gateway.facts.model import Facts
from glm_serving.gateway.facts.summary import facts_of

_DEVELOPER = "developer"


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | dict[str, msgspec.Raw] | None = None
    description: str | None = None
    parameters: msgspec.Raw = ABSENT


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: parts.Content = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Chat(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: Scalar = None
    max_tokens: Scalar = None
    max_completion_tokens: Scalar = None
    n: Scalar = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None
    response_format: msgspec.Raw = ABSENT
    reasoning_effort: Scalar = None
    chat_template_kwargs: msgspec.Raw = ABSENT
    session_id: Scalar = None
    prompt_cache_key: Scalar = None
    metadata: msgspec.Raw = ABSENT


class Format(msgspec.Struct):
    """What an answer has to look like."""

    type: str = ""


class TemplateArguments(msgspec.Struct):
    """The chat template's own switch."""

    enable_thinking: bool | None = None


_decoder = msgspec.json.Decoder(_Chat)
_format_decoder = msgspec.json.Decoder(Format)
_template_decoder = msgspec.json.Decoder(TemplateArguments)
_NO_FUNCTION = _Function()
_PLAIN = Format()
_UNSAID = TemplateArguments()


def of_chat(body: Body, rules: Media = INLINE_ONLY) -> Facts:
    """Facts of a chat completion.

    Raises:
        Refusal: the body is malformed, or carries media that the gateway does not take.
    """
    chat = decode(_decoder, body)
    media = MediaReader(rules)
    turns = [_turn(message, media, index) for index, message in enumerate(chat.messages)]
    check_text(body, media.texts, ("model", "messages"))
    return facts_of(
        Request(
            model=chat.model,
            turns=turns,
            tools=_tools(chat),
            stream=flag(chat.stream),
            max_tokens=count(chat.max_completion_tokens) or count(chat.max_tokens),
            choices=count(chat.n) or 1,
            tool_choice=_tool_choice(chat.tool_choice),
            response_format=plain_is_empty(lenient(_format_decoder, chat.response_format, _PLAIN)),
            thinking=thinking(chat.reasoning_effort, chat.chat_template_kwargs),
            session=session.named(chat.session_id, chat.prompt_cache_key, chat.metadata),
        )
    )


def thinking(effort: Scalar, template: msgspec.Raw) -> bool | None:
    """What a request says of thinking: the template's switch, else an effort that it names."""
    said = lenient(_template_decoder, template, _UNSAID).enable_thinking
    if said is not None or not effort:
        return said
    return effort != "none"


def plain_is_empty(format_: Format) -> str:
    """The format's type; text is what answers are anyway."""
    return "" if format_.type == "text" else format_.type


def _turn(message: _Message, media: MediaReader, index: int) -> Turn:
    role = SYSTEM if message.role == _DEVELOPER else message.role
    turn = Turn(role, answers=message.tool_call_id or "")
    parts.read(message.content, turn, media, f"messages[{index}].content")
    turn.reasoning = message.reasoning or message.reasoning_content or ""
    for call in message.tool_calls or ():
        turn.calls.append(_call(call.id or "", call.function or _NO_FUNCTION))
    return turn


def _call(identity: str, function: _Function) -> Call:
    given = function.arguments or "{}"
    text = given if isinstance(given, str) else msgspec.json.encode(given)
    return Call(identity, function.name, arguments(text))


def _tools(chat: _Chat) -> list[Tool]:
    offered = [tool.function for tool in chat.tools or ()] + (chat.functions or [])
    return [_tool(function or _NO_FUNCTION) for function in offered]


def _tool(function: _Function) -> Tool:
    return Tool(function.name, function.description or "", text_of(function.parameters))


def _tool_choice(value: str | dict[str, msgspec.Raw] | None) -> str:
    if isinstance(value, str):
        return value
    return "named" if value else ""
