"""Facts of a chat completion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from glm_serving.gateway import images, tasks
from glm_serving.gateway.bodies import Body, check_text
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts.decoding import Scalar, count, decode, flag
from glm_serving.gateway.facts.estimate import MESSAGE_TOKENS, VIDEO_TOKENS, text_tokens
from glm_serving.gateway.facts.model import Facts, Opening
from glm_serving.gateway.reasons import (
    MEDIA_URL_NOT_ALLOWED,
    UNSUPPORTED_MODALITY,
)

EXCERPT_CHARS = 1000
"""How much of the last user message the task rules read, from each end."""

_ABSENT = msgspec.Raw(b"null")


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
    stream: Scalar = None
    max_tokens: Scalar = None
    max_completion_tokens: Scalar = None
    tools: list[_Tool] | None = None
    functions: list[_Function] | None = None
    tool_choice: str | dict[str, msgspec.Raw] | None = None


_chat_decoder = msgspec.json.Decoder(_Chat)


def of_chat(body: Body) -> Facts:
    """Facts of a chat completion.

    Raises:
        Refusal: the body is malformed, or carries media that the gateway does not take.
    """
    chat = decode(_chat_decoder, body)
    counter = _Counter()
    for index, message in enumerate(chat.messages):
        counter.add(index, message)
    check_text(body, counter.urls, ("model", "messages"))
    start = open_loop_start(chat.messages)
    opening_end = len(chat.messages) if start is None else start
    return Facts(
        model=chat.model,
        stream=flag(chat.stream),
        images=len(counter.image_messages),
        image_tokens=counter.image_tokens,
        videos=len(counter.video_messages),
        text_chars=counter.chars,
        prompt_tokens=round(counter.tokens),
        min_prompt_tokens=round(counter.min_tokens),
        max_tokens=count(chat.max_completion_tokens) or count(chat.max_tokens),
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
        self.image_tokens = 0
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
        mean, least = text_tokens(text)
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
        self.image_tokens += cost
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


def _tool_choice(value: str | dict[str, msgspec.Raw] | None) -> str:
    if isinstance(value, str):
        return value
    return "named" if value else ""


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
