"""Facts of a request to Anthropic's API: a message, or the count of its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.config import Media
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import chat, session
from glm_serving.gateway.facts.conversation import (
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
from glm_serving.gateway.facts.media import INLINE_ONLY, MediaReader, Medium
from glm_serving.gateway.facts.model import Facts
from glm_serving.gateway.facts.summary import facts_of
from glm_serving.gateway.reasons import UNSUPPORTED_MODALITY


class _Source(msgspec.Struct):
    type: str = "base64"
    media_type: str = "image/jpeg"
    data: str = ""
    url: str = ""


class _Inner(msgspec.Struct):
    """A block in the result of a tool."""

    type: str = ""
    text: str | None = None
    source: _Source | None = None


class _Block(msgspec.Struct):
    type: str
    text: str | None = None
    source: _Source | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = ABSENT
    tool_use_id: str | None = None
    content: str | list[_Inner] | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Tool(msgspec.Struct):
    name: str = ""
    description: str | None = None
    input_schema: msgspec.Raw = ABSENT


class _Kind(msgspec.Struct):
    type: str = ""


class _OutputConfig(msgspec.Struct):
    effort: Scalar = None
    format: chat.Format | None = None


class _Request(msgspec.Struct):
    model: str
    messages: list[_Message]
    system: str | list[_Block] | None = None
    stream: Scalar = None
    max_tokens: Scalar = None
    tools: list[_Tool] | None = None
    tool_choice: _Kind | None = None
    thinking: msgspec.Raw = ABSENT
    output_config: msgspec.Raw = ABSENT
    chat_template_kwargs: msgspec.Raw = ABSENT
    metadata: msgspec.Raw = ABSENT


_decoder = msgspec.json.Decoder(_Request)
_kind_decoder = msgspec.json.Decoder(_Kind)
_output_decoder = msgspec.json.Decoder(_OutputConfig)
_UNSAID = _Kind()
_NO_OUTPUT = _OutputConfig()
_CHOICES = {"any": "required", "tool": "named"}
_THINKING = {"enabled": True, "disabled": False}
_UNSUPPORTED = frozenset({"document", "container_upload"})


def of_messages(body: Body, rules: Media = INLINE_ONLY) -> Facts:
    """Facts of a message of Anthropic's API, or of a request to count its tokens.

    Raises:
        Refusal: the body is malformed, or carries media that the gateway does not take.
    """
    request = decode(_decoder, body)
    media = MediaReader(rules)
    turns = list(_turns(request, media))
    check_text(body, media.texts, ("model", "messages"))
    output = lenient(_output_decoder, request.output_config, _NO_OUTPUT)
    choice = request.tool_choice.type if request.tool_choice else ""
    return facts_of(
        Request(
            model=request.model,
            turns=turns,
            tools=[_tool(tool) for tool in request.tools or ()],
            stream=flag(request.stream),
            max_tokens=count(request.max_tokens),
            tool_choice=_CHOICES.get(choice, choice),
            response_format=chat.plain_is_empty(output.format) if output.format else "",
            thinking=_thinking(request, output.effort),
            session=session.named(None, None, request.metadata),
        )
    )


def _thinking(request: _Request, effort: Scalar) -> bool | None:
    said = chat.thinking(None, request.chat_template_kwargs)
    if said is None:
        said = _THINKING.get(lenient(_kind_decoder, request.thinking, _UNSAID).type)
    return chat.thinking(effort, ABSENT) if said is None else said


def _tool(tool: _Tool) -> Tool:
    return Tool(tool.name, tool.description or "", text_of(tool.input_schema))


def _turns(request: _Request, media: MediaReader) -> Iterator[Turn]:
    if request.system:
        yield Turn(SYSTEM, texts=_system_texts(request.system))
    for index, message in enumerate(request.messages):
        if isinstance(message.content, str):
            yield Turn(message.role, texts=[message.content])
        else:
            yield from _of_blocks(message.role, message.content, media, f"messages[{index}]")


def _system_texts(system: str | Sequence[_Block]) -> list[str]:
    if isinstance(system, str):
        return [system]
    return [block.text for block in system if block.text is not None]


def _of_blocks(
    role: str, blocks: Sequence[_Block], media: MediaReader, where: str
) -> Iterator[Turn]:
    """The turns of one message: its results of tools first, as engines put them."""
    turn = Turn(role)
    results = False
    for place, block in enumerate(blocks):
        at = f"{where}.content[{place}]"
        if block.type == "tool_result" and role == USER:
            results = True
            yield _result(block, media, at)
        else:
            _add(block, turn, media, at)
    if not results or turn.texts or turn.media:
        yield turn


def _add(block: _Block, turn: Turn, media: MediaReader, where: str) -> None:
    if block.type == "text" and block.text is not None:
        turn.texts.append(block.text)
    elif block.type == "image" and block.source is not None:
        turn.media.append(_image(block.source, media, where))
    elif block.type == "tool_use":
        given = arguments("{}" if block.input == ABSENT else bytes(block.input))
        turn.calls.append(Call(block.id or "", block.name or "", given))
    elif block.type == "thinking" and block.thinking is not None:
        turn.reasoning += block.thinking
    elif block.type in _UNSUPPORTED:
        raise _not_taken(block.type, where)


def _result(block: _Block, media: MediaReader, where: str) -> Turn:
    turn = Turn(TOOL, answers=block.tool_use_id or "")
    if isinstance(block.content, str):
        turn.texts.append(block.content)
        return turn
    for place, inner in enumerate(block.content or ()):
        at = f"{where}.content[{place}]"
        if inner.type == "image" and inner.source is not None:
            turn.media.append(_image(inner.source, media, at))
        elif inner.type in _UNSUPPORTED:
            raise _not_taken(inner.type, at)
        elif inner.text is not None:
            turn.texts.append(inner.text)
    return turn


def _image(source: _Source, media: MediaReader, where: str) -> Medium:
    if source.type == "url":
        return media.image(source.url, f"{where}.source.url")
    if source.type == "file":
        raise _not_taken("file", where)
    return media.image_data(source.media_type, source.data, f"{where}.source")


def _not_taken(kind: str, where: str) -> Refusal:
    return Refusal(UNSUPPORTED_MODALITY, f"{where} is a {kind}: no tier takes it", where)
