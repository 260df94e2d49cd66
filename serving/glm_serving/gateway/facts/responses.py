"""Facts of a response of OpenAI's newer API, which is served without a memory."""

from __future__ import annotations

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.config import Media
from glm_serving.gateway.facts import chat, parts, session
from glm_serving.gateway.facts.conversation import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Call,
    Request,
    Tool,
    Turn,
    arguments,
)
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
from glm_serving.gateway.facts.stateless import Stateful, check_stateless, not_stored
from glm_serving.gateway.facts.summary import facts_of

_MESSAGE = "message"
_CALLS = frozenset({"function_call", "custom_tool_call"})
_RESULTS = frozenset({"function_call_output", "custom_tool_call_output"})
_REASONING = "reasoning"
_REFERENCE = "item_reference"
_DEVELOPER = "developer"


class _Text(msgspec.Struct):
    text: str | None = None


class _Item(msgspec.Struct):
    type: str | None = None
    role: str = ""
    content: parts.Content = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: parts.Content = None
    summary: list[_Text] | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    name: str = ""
    description: str | None = None
    parameters: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    type: str = ""
    mode: str = ""


class _TextConfig(msgspec.Struct):
    format: chat.Format | None = None


class _Reasoning(msgspec.Struct):
    effort: Scalar = None


class _Request(Stateful, kw_only=True):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    stream: Scalar = None
    max_output_tokens: Scalar = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    text: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    chat_template_kwargs: msgspec.Raw = ABSENT
    session_id: Scalar = None
    prompt_cache_key: Scalar = None
    metadata: msgspec.Raw = ABSENT


_decoder = msgspec.json.Decoder(_Request)
_text_decoder = msgspec.json.Decoder(_TextConfig)
_reasoning_decoder = msgspec.json.Decoder(_Reasoning)
_NO_TEXT = _TextConfig()
_NO_REASONING = _Reasoning()


def of_responses(body: Body, rules: Media = INLINE_ONLY) -> Facts:
    """Facts of a response.

    Raises:
        Refusal: the body is malformed, needs what is not stored, or carries media that the
            gateway does not take.
    """
    request = decode(_decoder, body)
    check_stateless(request)
    media = MediaReader(rules)
    turns = _turns(request, media)
    check_text(body, media.texts, ("model", "input"))
    text = lenient(_text_decoder, request.text, _NO_TEXT)
    effort = lenient(_reasoning_decoder, request.reasoning, _NO_REASONING).effort
    return facts_of(
        Request(
            model=request.model,
            turns=turns,
            tools=[_tool(tool) for tool in request.tools or ()],
            stream=flag(request.stream),
            max_tokens=count(request.max_output_tokens),
            tool_choice=_tool_choice(request.tool_choice),
            response_format=chat.plain_is_empty(text.format) if text.format else "",
            thinking=chat.thinking(effort, request.chat_template_kwargs),
            session=session.named(request.session_id, request.prompt_cache_key, request.metadata),
        )
    )


def _turns(request: _Request, media: MediaReader) -> list[Turn]:
    turns = [Turn(SYSTEM, texts=[request.instructions])] if request.instructions else []
    if isinstance(request.input, str):
        return [*turns, Turn(USER, texts=[request.input])]
    for index, item in enumerate(request.input):
        _add(item, turns, media, f"input[{index}]")
    return turns


def _add(item: _Item, turns: list[Turn], media: MediaReader, where: str) -> None:
    """Put an item into a turn of its own, or into the assistant's turn that it belongs to."""
    if item.type in _RESULTS:
        turn = Turn(TOOL, answers=item.call_id or "")
        turns.append(turn)
        parts.read(item.output, turn, media, f"{where}.output")
    elif item.type in _CALLS:
        given = arguments(item.arguments or item.input or "{}")
        call = Call(item.call_id or "", item.name or "", given)
        _assistant(turns, speaks=False).calls.append(call)
    elif item.type == _REASONING:
        _assistant(turns, speaks=True).reasoning += _reasoning(item)
    elif item.type in {None, _MESSAGE}:
        parts.read(item.content, _speaker(item.role, turns), media, f"{where}.content")
    elif item.type == _REFERENCE:
        raise not_stored(where)
    # Every other kind is the engine's to refuse.


def _speaker(role: str, turns: list[Turn]) -> Turn:
    if role == ASSISTANT:
        return _assistant(turns, speaks=True)
    turns.append(Turn(SYSTEM if role == _DEVELOPER else role))
    return turns[-1]


def _assistant(turns: list[Turn], *, speaks: bool) -> Turn:
    """The assistant's turn to go on with, as engines join items; one turn has one text."""
    last = turns[-1] if turns else None
    if last is None or last.role != ASSISTANT or (speaks and last.texts):
        last = Turn(ASSISTANT)
        turns.append(last)
    return last


def _reasoning(item: _Item) -> str:
    given = item.content if isinstance(item.content, list) else item.summary or ()
    return "".join(part if isinstance(part, str) else part.text or "" for part in given)


def _tool(tool: _Tool) -> Tool:
    return Tool(tool.name, tool.description or "", text_of(tool.parameters))


def _tool_choice(value: str | _Choice | None) -> str:
    if isinstance(value, _Choice):
        return value.mode or "named"
    return value or ""
