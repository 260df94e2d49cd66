"""From a conversation to its facts: the same for every dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from glm_serving.gateway import tasks
from glm_serving.gateway.facts import estimate, session
from glm_serving.gateway.facts.conversation import SYSTEM, TOOL, USER, Request, Tool, Turn
from glm_serving.gateway.facts.loops import open_loop_start, repeated_calls
from glm_serving.gateway.facts.media import Medium
from glm_serving.gateway.facts.model import Facts, Opening

EXCERPT_CHARS = 1000
"""How much of a text the task rules read, from each end."""


def facts_of(request: Request) -> Facts:
    """The facts of a request that one of the dialects read."""
    turns = request.turns
    start = open_loop_start(turns)
    loop = turns[start:] if start is not None else []
    media = [medium for turn in turns for medium in turn.media]
    images = [medium for medium in media if not medium.video]
    texts = list(_texts(request))
    chars = sum(map(len, texts))
    text_tokens = estimate.text_tokens(texts)
    media_tokens = sum(medium.tokens for medium in media)
    prompt_tokens = round(text_tokens) + media_tokens + estimate.template_tokens(request)
    # At least one token for each image or video, whatever its size.
    least = round(min(chars / estimate.MAX_CHARS_PER_TOKEN, text_tokens)) + len(media)
    return Facts(
        model=request.model,
        stream=request.stream,
        images=len(images),
        image_pixels=sum(image.pixels for image in images),
        largest_image_pixels=max((image.pixels for image in images), default=0),
        image_tokens=media_tokens,
        result_images=sum(not m.video for turn in turns if turn.role == TOOL for m in turn.media),
        videos=len(media) - len(images),
        media=tuple(dict.fromkeys(medium.key for medium in media)),
        text_chars=chars,
        text_tokens=round(text_tokens),
        prompt_tokens=prompt_tokens,
        min_prompt_tokens=least,
        max_tokens=request.max_tokens,
        choices=request.choices,
        tools=len(request.tools),
        schema_chars=sum(map(_size, request.tools)),
        screen_tools=any(map(tasks.operates_screen, _functions(request.tools, loop))),
        tool_choice=request.tool_choice,
        in_tool_loop=start is not None,
        loop_steps=sum(bool(turn.calls) for turn in loop),
        repeated_calls=repeated_calls(loop),
        response_format=request.response_format,
        thinking=request.thinking,
        session=request.session or session.of_beginning(turns),
        opening=_opening(request, start, prompt_tokens),
    )


def _texts(request: Request) -> Iterator[str]:
    """All that the chat template puts into the prompt."""
    for tool in request.tools:
        yield from (tool.name, tool.description, tool.schema)
    last_user = max((at for at, turn in enumerate(request.turns) if turn.role == USER), default=-1)
    for at, turn in enumerate(request.turns):
        # The template drops what was thought before the last message of the user.
        if at > last_user and turn.reasoning:
            yield turn.reasoning
        yield from turn.texts
        for call in turn.calls:
            yield call.name
            yield call.arguments


def _size(tool: Tool) -> int:
    return len(tool.name) + len(tool.description) + len(tool.schema)


def _functions(tools: Sequence[Tool], loop: Sequence[Turn]) -> set[str]:
    """Names of the functions offered, and of those called in the loop that is open.

    A later step of a loop may leave `tools` out: what was called says what the loop is about.
    """
    return {tool.name for tool in tools} | {call.name for turn in loop for call in turn.calls}


def _opening(request: Request, start: int | None, prompt_tokens: int) -> Opening:
    """The request that opened the loop that is open; else the request itself."""
    opening = request
    if start is not None:
        opening = msgspec.structs.replace(request, turns=request.turns[:start])
        prompt_tokens = _prompt_tokens(opening)
    media: list[Medium] = [medium for turn in opening.turns for medium in turn.media]
    videos = sum(medium.video for medium in media)
    return Opening(
        images=len(media) - videos,
        videos=videos,
        prompt_tokens=prompt_tokens,
        text=_last_text(opening.turns, USER),
        system=_last_text(opening.turns, SYSTEM),
    )


def _prompt_tokens(request: Request) -> int:
    media_tokens = sum(medium.tokens for turn in request.turns for medium in turn.media)
    texts = round(estimate.text_tokens(list(_texts(request))))
    return texts + media_tokens + estimate.template_tokens(request)


def _last_text(turns: Sequence[Turn], role: str) -> str:
    for turn in reversed(turns):
        if turn.role == role:
            text = " ".join(text[: 2 * EXCERPT_CHARS] for text in turn.texts if text)
            if text:
                return _excerpt(text)
    return ""


def _excerpt(text: str) -> str:
    if len(text) <= 2 * EXCERPT_CHARS:
        return text
    return text[:EXCERPT_CHARS] + " " + text[-EXCERPT_CHARS:]
