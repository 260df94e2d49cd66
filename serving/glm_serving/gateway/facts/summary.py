"""From a conversation to its facts: the same for every dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    opening = turns[:start] if start is not None else turns
    tool_texts, began, later = _tool_texts(request.tools), _texts(opening), _loop_texts(loop)
    chars = sum(map(len, [*tool_texts, *began, *(text for texts in later for text in texts)]))
    of_tools, of_opening = estimate.text_tokens(tool_texts), estimate.text_tokens(began)
    text_tokens = of_tools + of_opening + estimate.turn_tokens(later)
    media_tokens = sum(medium.tokens for medium in media)
    prompt_tokens = round(text_tokens) + media_tokens + estimate.template_tokens(request)
    tool_tokens = round(of_tools) + estimate.tools_template_tokens(request.tools)
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
        tool_tokens=tool_tokens,
        schema_chars=sum(map(_size, request.tools)),
        screen_tools=any(map(tasks.operates_screen, _functions(request.tools, loop))),
        tool_choice=request.tool_choice,
        in_tool_loop=start is not None,
        loop_steps=sum(bool(turn.calls) for turn in loop),
        repeated_calls=repeated_calls(loop),
        response_format=request.response_format,
        thinking=request.thinking,
        session=request.session or session.of_beginning(turns),
        opening=_opening(opening, round(of_opening)),
    )


def _tool_texts(tools: Sequence[Tool]) -> list[str]:
    return [text for tool in tools for text in (tool.name, tool.description, tool.schema)]


def _texts(turns: Sequence[Turn]) -> list[str]:
    """All that the chat template puts into the prompt of some turns."""
    last_user = max((at for at, turn in enumerate(turns) if turn.role == USER), default=-1)
    # The template drops what was thought before the last message of the user.
    return [text for at, turn in enumerate(turns) for text in _turn_texts(turn, at > last_user)]


def _loop_texts(turns: Sequence[Turn]) -> list[list[str]]:
    """Of each turn, thoughts always included: what a loop holds must never seem to shrink."""
    return [list(_turn_texts(turn, True)) for turn in turns]


def _turn_texts(turn: Turn, thoughts: bool) -> Iterator[str]:
    if thoughts and turn.reasoning:
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


def _opening(turns: Sequence[Turn], text_tokens: int) -> Opening:
    media: list[Medium] = [medium for turn in turns for medium in turn.media]
    videos = sum(medium.video for medium in media)
    media_tokens = sum(medium.tokens for medium in media)
    return Opening(
        images=len(media) - videos,
        videos=videos,
        prompt_tokens=text_tokens + media_tokens + estimate.turns_template_tokens(turns),
        text=_last_text(turns, USER),
        system=_last_text(turns, SYSTEM),
    )


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
