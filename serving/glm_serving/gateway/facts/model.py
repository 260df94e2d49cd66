"""What a request is reduced to."""

from __future__ import annotations

from dataclasses import dataclass


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
    image_tokens: int = 0
    """The part of `prompt_tokens` that images take."""
    max_tokens: int = 0
    """Output asked for; 0 when the client leaves it to the engine."""
    tools: int = 0
    screen_tools: bool = False
    """Whether a function that is offered, or called in the open loop, operates a screen."""
    tool_choice: str = ""
    """`none`, `auto`, `required`, or `named` for an object that names a function."""
    in_tool_loop: bool = False
    opening: Opening = Opening()
