"""What the gateway knows of a request, from one typed decode of the client's bytes.

Unknown fields, roles and part types pass unread: the engine judges them. What is decoded is
validated, which also bounds what a hostile body can make the gateway build.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from glm_serving.gateway import images, tasks
from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import (
    INVALID_REQUEST,
    MEDIA_URL_NOT_ALLOWED,
    UNSUPPORTED_MODALITY,
)

_T = TypeVar("_T")

CHARS_PER_TOKEN = 4.0
BYTES_PER_TOKEN_OTHER = 3.0
"""Text that is not ASCII: about one token per CJK character of three bytes."""
MAX_BYTES_PER_TOKEN = 16.0
"""No text is shorter in tokens than this, so a refusal on it is never wrong in practice."""
VIDEO_TOKENS = 30000
"""Upper end of one video (the processor's default of 28*28*2*30000 pixels)."""
EXCERPT_CHARS = 1000
"""How much of the last user message the task rules read, from each end."""
MESSAGE_TOKENS = 4
"""Role and separator tokens of one message in the chat template."""


_ABSENT = msgspec.Raw(b"null")
_Scalar = bool | int | float | str | None
"""A field that the gateway only estimates with: engines read `16.0` and `"16"` as 16."""


class _Link(msgspec.Struct):
    url: str = ""


class _Part(msgspec.Struct):
    text: str | None = None
    image_url: str | _Link | None = None
    video_url: str | _Link | None = None
    audio_url: msgspec.Raw = _ABSENT
    input_audio: msgspec.Raw = _ABSENT
    image_embeds: msgspec.Raw = _ABSENT
    audio_embeds: msgspec.Raw = _ABSENT
    file: msgspec.Raw = _ABSENT
    type: str | None = None


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str | dict[str, msgspec.Raw] | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part | str] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


class _Tool(msgspec.Struct):
    function: _Function | None = None


class _Chat(msgspec.Struct):
    model: str
    messages: list[_Message]
    stream: _Scalar = None
    max_tokens: _Scalar = None
    max_completion_tokens: _Scalar = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None


class _Completion(msgspec.Struct):
    model: str
    prompt: str | list[str | int | list[int]] | None = None
    stream: _Scalar = None
    max_tokens: _Scalar = None


_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
"""Words that engines (pydantic) take for true."""

_chat_decoder = msgspec.json.Decoder(_Chat)
_completion_decoder = msgspec.json.Decoder(_Completion)


@dataclass(frozen=True, slots=True)
class Opening:
    """What an open tool loop began with; without a loop, the whole conversation."""

    images: int = 0
    videos: int = 0
    text: str = ""
    """Excerpt of the last user message."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One request, reduced to what a decision needs. Token counts are estimates."""

    model: str
    stream: bool = False
    images: int = 0
    videos: int = 0
    text_chars: int = 0
    prompt_tokens: int = 0
    min_prompt_tokens: int = 0
    """A lower bound of the prompt: a refusal may rest on it."""
    max_tokens: int = 0
    """Output asked for; 0 when the client leaves it to the engine."""
    tools: int = 0
    screen_tools: bool = False
    """Whether a function that is offered, or called in the open loop, operates a screen."""
    tool_choice: str = ""
    """`none`, `auto`, `required`, or `named` for an object that names a function."""
    in_tool_loop: bool = False
    opening: Opening = Opening()


def of_chat(body: Body) -> Facts:
    """Facts of a chat completion.

    Raises:
        Refusal: the body is malformed, or carries media that the gateway does not take.
    """
    chat = _decode(_chat_decoder, body)
    counter = _Counter()
    for index, message in enumerate(chat.messages):
        counter.add(index, message)
    check_text(body, counter.urls, ("model", "messages"))
    start = open_loop_start(chat.messages)
    opening_end = len(chat.messages) if start is None else start
    return Facts(
        model=chat.model,
        stream=_flag(chat.stream),
        images=len(counter.image_messages),
        videos=len(counter.video_messages),
        text_chars=counter.chars,
        prompt_tokens=round(counter.tokens),
        min_prompt_tokens=round(counter.min_tokens),
        max_tokens=_count(chat.max_completion_tokens) or _count(chat.max_tokens),
        tools=len(chat.tools or ()) + len(chat.functions or ()),
        screen_tools=any(map(tasks.operates_screen, _functions(chat, start))),
        tool_choice=_tool_choice(chat.tool_choice),
        in_tool_loop=start is not None,
        opening=Opening(
            images=sum(at < opening_end for at in counter.image_messages),
            videos=sum(at < opening_end for at in counter.video_messages),
            text=_last_user_text(chat.messages[:opening_end]),
        ),
    )


def _functions(chat: _Chat, loop_start: int | None) -> set[str]:
    """Names of the functions offered, and of those called in the loop that is open.

    A later step of a loop may leave `tools` out: what was called says what the loop is about.
    """
    offered = [tool.function for tool in chat.tools or ()] + (chat.functions or [])
    loop = chat.messages[loop_start:] if loop_start is not None else ()
    called = [call.function for message in loop for call in message.tool_calls or ()]
    return {function.name for function in [*offered, *called] if function}


def of_completion(body: Body) -> Facts:
    """Facts of a text completion: names and lengths only.

    Raises:
        Refusal: the body is malformed.
    """
    request = _decode(_completion_decoder, body)
    check_text(body, (), ("model", "prompt"))
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt or []
    texts = [p for p in prompts if isinstance(p, str)]
    numbers = sum(1 if isinstance(p, int) else len(p) for p in prompts if not isinstance(p, str))
    sizes = [_text_tokens(text) for text in texts]
    return Facts(
        model=request.model,
        stream=_flag(request.stream),
        text_chars=sum(len(text) for text in texts),
        prompt_tokens=round(sum(mean for mean, _ in sizes)) + numbers,
        # Prompts of one batch are separate sequences, so only the longest bounds the context.
        min_prompt_tokens=round(max((least for _, least in sizes), default=0)),
        max_tokens=_count(request.max_tokens),
    )


def open_loop_start(messages: Sequence[_Message]) -> int | None:
    """Index of the first tool call of the loop that is open, or None.

    A loop opens with an assistant message that calls tools. It closes with an assistant message
    that calls none once every call id has its result. Messages of the user in between (such as
    a screenshot that follows a result) do not close it: the assistant has not answered yet.
    """
    start: int | None = None
    pending: set[str] = set()
    for index, message in enumerate(messages):
        if message.tool_calls:
            start = index if start is None else start
            pending.update(call.id for call in message.tool_calls if call.id)
        elif message.role == "tool":
            pending.discard(message.tool_call_id or "")
        elif message.role == "assistant" and not pending:
            start = None
    return start


class _Counter:
    """Adds up the content of messages and refuses media that nobody may serve."""

    def __init__(self) -> None:
        self.chars = 0
        self.tokens = 0.0
        self.min_tokens = 0.0
        self.urls: list[str] = []
        self.image_messages: list[int] = []
        self.video_messages: list[int] = []

    def add(self, index: int, message: _Message) -> None:
        """Count one message."""
        self.tokens += MESSAGE_TOKENS
        if isinstance(message.content, str):
            self._text(message.content)
        elif message.content is not None:
            for place, part in enumerate(message.content):
                if isinstance(part, str):
                    self._text(part)
                else:
                    self._part(index, place, part)
        for call in message.tool_calls or ():
            if call.function and isinstance(call.function.arguments, str):
                self._text(call.function.arguments)

    def _text(self, text: str) -> None:
        mean, least = _text_tokens(text)
        self.chars += len(text)
        self.tokens += mean
        self.min_tokens += least

    def _part(self, index: int, place: int, part: _Part) -> None:
        # Fields count, not `type`: vLLM reads a part without a type by the fields it has.
        where = f"messages[{index}].content[{place}]"
        for kind, found in _unsupported(part):
            if found:
                raise Refusal(UNSUPPORTED_MODALITY, f"{where} is {kind}: no tier takes it", where)
        if part.text is not None:
            self._text(part.text)
        if part.image_url is not None:
            self._image(index, _data_url(part.image_url, f"{where}.image_url"))
        if part.video_url is not None:
            self._video(index, _data_url(part.video_url, f"{where}.video_url"))

    def _image(self, index: int, url: str) -> None:
        cost = images.tokens_of_url(url)
        self.urls.append(url)
        self.image_messages.append(index)
        self.tokens += cost
        self.min_tokens += 1

    def _video(self, index: int, url: str) -> None:
        self.urls.append(url)
        self.video_messages.append(index)
        self.tokens += VIDEO_TOKENS
        self.min_tokens += 1


def _unsupported(part: _Part) -> Iterator[tuple[str, bool]]:
    yield "audio", part.audio_url != _ABSENT or part.input_audio != _ABSENT
    yield "an embedding", part.image_embeds != _ABSENT or part.audio_embeds != _ABSENT
    yield "a file", part.file != _ABSENT


def _data_url(link: str | _Link, where: str) -> str:
    url = link if isinstance(link, str) else link.url
    if url.startswith("data:"):
        return url
    raise Refusal(
        MEDIA_URL_NOT_ALLOWED,
        f"{where} is not a data: URL: the gateway allows no media by URL; send the bytes inline",
        where,
    )


def _decode(decoder: msgspec.json.Decoder[_T], body: Body) -> _T:
    try:
        return decoder.decode(body)
    except RecursionError as error:
        raise Refusal(INVALID_REQUEST, "the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(INVALID_REQUEST, f"the body cannot be read: {error}") from error


def _count(value: _Scalar) -> int:
    """A number of tokens; 0 where it cannot be read, which is the engine's to refuse."""
    try:
        return max(int(value or 0), 0)
    except (ValueError, OverflowError):
        return 0


def _flag(value: _Scalar) -> bool:
    return value.lower() in _TRUE if isinstance(value, str) else bool(value)


def _tool_choice(value: str | dict[str, msgspec.Raw] | None) -> str:
    if isinstance(value, str):
        return value
    return "named" if value else ""


def _text_tokens(text: str) -> tuple[float, float]:
    """Mean and least number of tokens of a text."""
    if text.isascii():
        return len(text) / CHARS_PER_TOKEN, len(text) / MAX_BYTES_PER_TOKEN
    size = len(text.encode())
    return size / BYTES_PER_TOKEN_OTHER, size / MAX_BYTES_PER_TOKEN


def _last_user_text(messages: Sequence[_Message]) -> str:
    for message in reversed(messages):
        if message.role == "user":
            text = _text_of(message)
            if text:
                return text
    return ""


def _text_of(message: _Message) -> str:
    if isinstance(message.content, str):
        return _excerpt(message.content)
    parts = message.content or ()
    texts = (p if isinstance(p, str) else p.text or "" for p in parts)
    return _excerpt(" ".join(text[: 2 * EXCERPT_CHARS] for text in texts if text))


def _excerpt(text: str) -> str:
    if len(text) <= 2 * EXCERPT_CHARS:
        return text
    return text[:EXCERPT_CHARS] + " " + text[-EXCERPT_CHARS:]
