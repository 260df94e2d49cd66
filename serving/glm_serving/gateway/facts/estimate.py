"""How many tokens a prompt has, estimated.

Text is cut by a pattern into pieces of about one token each. It follows the splitting pattern that
GLM's tokenizer shares with OpenAI's cl100k, and the vocabularies of both: a word with the character
before it, up to three digits, a run of punctuation, one or two Chinese characters. On prose, code,
JSON and Chinese it is within 15 percent of such tokenizers (tests/data/token-counts.json).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glm_serving.gateway.facts.conversation import (
    ASSISTANT,
    SYSTEM,
    TOOL,
    USER,
    Request,
    Tool,
    Turn,
)

SAMPLE_CHARS = 2048
"""A longer text is judged by this much of it."""
_WINDOWS = 16
TURN_WINDOW = 64
TURN_CHARS_PER_WINDOW = 1024
"""A turn of a loop is judged by one window of it, and one more for so many characters."""
SAMPLED_TURNS = 256
"""What comes later in a loop is judged by its length alone, which bounds the time it takes."""
CHARS_PER_TOKEN = 3.5
"""Of texts that nobody looks at."""
MAX_CHARS_PER_TOKEN = 16.0
"""No text is shorter in tokens than this, so a refusal on it is never wrong in practice."""
PROMPT_TOKENS = 4
"""`[gMASK]<sop>` before a conversation, `<|assistant|>` and a line break behind it."""
TURN_TOKENS = {SYSTEM: 2, USER: 2, ASSISTANT: 5, TOOL: 6}
"""Markers and line breaks around one turn in the chat template."""
CALL_TOKENS = 6
TOOLS_TOKENS = 110
"""What the template says of tools in general."""
TOOL_TOKENS = 20
"""What JSON puts around one tool's name, description and schema."""
IMAGE_MARKERS = 2
"""The begin and the end of an image."""

_PIECE = re.compile(
    r"[^\r\n0-9A-Za-z]?(?:[A-Z]?[a-z]{1,9}|[A-Z]{1,4}(?![a-z]))"
    r"|[0-9]{1,3}"
    r"| ?[!-/:-@\[-`{-~]{1,4}[\r\n]*"
    r"|\s*[\r\n]+|[ \t]+(?=[ \t])|[ \t]"
    r"|[\u0080-\u1fff]{1,4}|[\u2000-\u2e7f]+"
    # Punctuation of Chinese and Japanese, then their words.
    r"|[\u3000-\u303f\uff00-\uffef]|[\u2e80-\u2fff\u3040-\ufeff\U00010000-\U0010ffff]{1,2}"
)


def text_tokens(texts: Sequence[str]) -> float:
    """Tokens of some texts. Of long ones a sample is counted, evenly spread."""
    whole = texts[0] if len(texts) == 1 else "\n".join(texts)
    chars = len(whole)
    if chars <= SAMPLE_CHARS:
        return len(_PIECE.findall(whole))
    width = SAMPLE_CHARS // _WINDOWS
    last = chars - width
    starts = [last * n // (_WINDOWS - 1) for n in range(_WINDOWS)]
    counted = sum(len(_PIECE.findall(whole, at, at + width)) for at in starts)
    return counted * chars / SAMPLE_CHARS


def turn_tokens(turns: Sequence[Sequence[str]]) -> float:
    """Tokens of the texts of the turns of a tool loop, each turn judged by itself.

    So a loop that grows never seems to shrink, as it might if one sample were spread over all.
    """
    return sum(
        _tokens_of_turn(texts) if at < SAMPLED_TURNS else sum(map(len, texts)) / CHARS_PER_TOKEN
        for at, texts in enumerate(turns)
    )


def _tokens_of_turn(texts: Sequence[str]) -> float:
    whole = "\n".join(texts)
    windows = 1 + len(whole) // TURN_CHARS_PER_WINDOW
    if len(whole) <= 2 * TURN_WINDOW:
        return len(_PIECE.findall(whole))
    return _sampled(whole, min(windows, _WINDOWS), TURN_WINDOW)


def _sampled(text: str, windows: int, width: int) -> float:
    """Tokens of a text by some windows of it, evenly spread."""
    last = len(text) - width
    starts = [last * (n + 1) // (windows + 1) for n in range(windows)]
    counted = sum(len(_PIECE.findall(text, at, at + width)) for at in starts)
    return counted * len(text) / (windows * width)


def template_tokens(request: Request) -> int:
    """Tokens that the chat template adds by itself."""
    return turns_template_tokens(request.turns) + tools_template_tokens(request.tools)


def turns_template_tokens(turns: Sequence[Turn]) -> int:
    """Those around turns, calls and media."""
    around = sum(TURN_TOKENS.get(turn.role, TURN_TOKENS[USER]) for turn in turns)
    calls = CALL_TOKENS * sum(len(turn.calls) for turn in turns)
    media = IMAGE_MARKERS * sum(len(turn.media) for turn in turns)
    return PROMPT_TOKENS + around + calls + media


def tools_template_tokens(tools: Sequence[Tool]) -> int:
    """Those around tools."""
    return TOOLS_TOKENS + TOOL_TOKENS * len(tools) if tools else 0
