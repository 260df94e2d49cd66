"""How many tokens a text has, estimated."""

from __future__ import annotations

CHARS_PER_TOKEN = 4.0
BYTES_PER_TOKEN_OTHER = 3.0
"""Text that is not ASCII: about one token per CJK character of three bytes."""
MAX_BYTES_PER_TOKEN = 16.0
"""No text is shorter in tokens than this, so a refusal on it is never wrong in practice."""
MESSAGE_TOKENS = 4
"""Role and separator tokens of one message in the chat template."""
VIDEO_TOKENS = 30000
"""Upper end of one video (the processor's default of 28*28*2*30000 pixels)."""


def text_tokens(text: str) -> tuple[float, float]:
    """Mean and least number of tokens of a text."""
    if text.isascii():
        return len(text) / CHARS_PER_TOKEN, len(text) / MAX_BYTES_PER_TOKEN
    size = len(text.encode())
    return size / BYTES_PER_TOKEN_OTHER, size / MAX_BYTES_PER_TOKEN
