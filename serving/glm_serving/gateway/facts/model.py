"""What a request is reduced to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Opening:
    """What an open tool loop began with; without a loop, the whole conversation."""

    images: int = 0
    videos: int = 0
    prompt_tokens: int = 0
    """As that of the request which opened the loop, without those of its tools."""
    text: str = ""
    """Excerpt of the last user message that has text."""
    system: str = ""
    """Excerpt of the last system message."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One request, reduced to what a decision needs. Token counts are estimates.

    The same conversation has the same facts in every dialect.
    """

    model: str
    stream: bool = False
    images: int = 0
    image_pixels: int = 0
    """Of all images whose header tells their size."""
    largest_image_pixels: int = 0
    image_tokens: int = 0
    """The part of `prompt_tokens` that images and the frames of videos take."""
    result_images: int = 0
    """Images in the results of tools; `images` counts them too."""
    videos: int = 0
    media: tuple[int, ...] = ()
    """Key of each different image and video, in order: what a replica may have in its cache."""
    text_chars: int = 0
    text_tokens: int = 0
    """Of everything that clients wrote; `prompt_tokens` has media and the template's own too."""
    prompt_tokens: int = 0
    min_prompt_tokens: int = 0
    """A lower bound of the prompt: a refusal may rest on it."""
    max_tokens: int = 0
    """Output asked for, of one answer; 0 when the client leaves it to the engine."""
    choices: int = 1
    """Answers asked for."""
    tools: int = 0
    tool_tokens: int = 0
    """The part of `prompt_tokens` that the tools take."""
    schema_chars: int = 0
    """Size of the tools' names, descriptions and schemas."""
    screen_tools: bool = False
    """Whether a function that is offered, or called in the open loop, operates a screen."""
    tool_choice: str = ""
    """`none`, `auto`, `required`, or `named` for an object that names a function."""
    in_tool_loop: bool = False
    loop_steps: int = 0
    """Turns of the open loop that call tools."""
    repeated_calls: int = 0
    """Calls of the open loop that an earlier turn of it made with the same arguments."""
    response_format: str = ""
    """`json_object`, `json_schema` or another constraint of the answer; empty for plain text."""
    thinking: bool | None = None
    """Whether the client switches thinking on or off; None when it leaves it to the engine."""
    session: str = ""
    """Which conversation this is: the name that the body gives it, else a hash of its beginning."""
    opening: Opening = Opening()
