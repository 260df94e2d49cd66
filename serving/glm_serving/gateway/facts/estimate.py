"""How many tokens a prompt has, estimated.

Text is cut by a pattern into pieces of about one token each. It follows the splitting pattern that
GLM's tokenizer shares with OpenAI's cl100k, and the vocabularies of both: a word with the character
before it, up to three digits, a run of punctuation, one or two Chinese characters. On prose, code,
JSON and Chinese it is within 15 percent of such tokenizers (tests/data/token-counts.json).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glm_serving.gateway.facts.conversation import ASSISTANT, SYSTEM, TOOL, USER, Request

SAMPLE_CHARS = 2048
"""A longer text is judged by this much of it."""
_WINDOWS = 16
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


def template_tokens(request: Request) -> int:
    """Tokens that the chat template adds by itself."""
    turns = sum(TURN_TOKENS.get(turn.role, TURN_TOKENS[USER]) for turn in request.turns)
    calls = CALL_TOKENS * sum(len(turn.calls) for turn in request.turns)
    media = IMAGE_MARKERS * sum(len(turn.media) for turn in request.turns)
    tools = TOOLS_TOKENS + TOOL_TOKENS * len(request.tools) if request.tools else 0
    return PROMPT_TOKENS + turns + calls + media + tools
