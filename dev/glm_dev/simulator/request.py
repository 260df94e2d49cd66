"""A request, checked as vLLM checks it and reduced to what an answer depends on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from glm_dev.simulator import tokens, vision
from glm_dev.simulator.errors import ApiError
from glm_dev.simulator.settings import Settings

TEMPLATE_TOKENS = 4
"""Role marker and line breaks that the chat template adds to each message."""
MEDIA_PARTS = {"image_url": "image", "input_image": "image", "video_url": "video"}


@dataclass(frozen=True, slots=True)
class Tool:
    """One function that the model may call."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the conversation holds."""

    text: str = ""
    """All text in order; with the seed it determines the answer."""
    text_tokens: int = 0
    images: int = 0
    image_tokens: int = 0
    ends_with_tool_result: bool = False

    @property
    def tokens(self) -> int:
        """Length of the whole prompt."""
        return self.text_tokens + self.image_tokens


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation: chat or plain completion."""

    prompt: Prompt
    max_tokens: int | None = None
    ignore_eos: bool = False
    """Write until `max_tokens`, as load generators ask for."""
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "none"
    """`none`, `auto`, `required`, or `named` with exactly one tool in `tools`."""
    parallel_tool_calls: bool = True
    choices: tuple[str, ...] = ()
    """`structured_outputs.choice`: the answer is one of these, letter for letter."""
    thinking: bool = False


def chat(body: Mapping[str, Any], settings: Settings) -> Generation:
    """Check and read a chat completion request. Raises ApiError with vLLM's own sentences."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise ApiError.wrong_type("body.messages", "a valid list", messages)
    _check_model(body, settings)
    if not messages:
        raise ApiError.bad_request(
            "Cannot apply chat template to an empty conversation. Provide at least one message."
        )
    tools, choice = _tools(body, settings)
    if not settings.sees and any(_shows_media(message) for message in messages):
        raise ApiError.bad_request(f"{settings.name} is not a multimodal model")
    prompt = _conversation(messages, body.get("tools"))
    if settings.max_images is not None and prompt.images > settings.max_images:
        raise ApiError.bad_request(
            f"At most {settings.max_images} image(s) may be provided in one prompt. "
            "Set `--limit-mm-per-prompt` to increase this limit.",
            "image",
        )
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    _check_length(prompt.tokens, limit, settings)
    template = body.get("chat_template_kwargs") or {}
    return Generation(
        prompt=prompt,
        max_tokens=limit,
        ignore_eos=bool(body.get("ignore_eos")),
        stream=bool(body.get("stream")),
        include_usage=_include_usage(body),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.get("parallel_tool_calls", True) is not False,
        choices=tuple((body.get("structured_outputs") or {}).get("choice") or ()),
        thinking=bool(template.get("enable_thinking", settings.thinking)),
    )


def completion(body: Mapping[str, Any], settings: Settings) -> Generation:
    """Check and read a plain completion request. Raises ApiError."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ApiError.wrong_type("body.prompt", "a valid string", prompt)
    _check_model(body, settings)
    count = tokens.count(prompt)
    _check_length(count, body.get("max_tokens"), settings)
    return Generation(
        prompt=Prompt(text=prompt, text_tokens=count),
        max_tokens=body.get("max_tokens", 16),
        ignore_eos=bool(body.get("ignore_eos")),
        stream=bool(body.get("stream")),
        include_usage=_include_usage(body),
    )


def _check_model(body: Mapping[str, Any], settings: Settings) -> None:
    name = body.get("model")
    if name and not settings.skip_model_name_validation and name not in settings.served_names:
        raise ApiError.no_model(str(name), settings.served_names)


def _check_length(prompt: int, limit: int | None, settings: Settings) -> None:
    if limit is not None and not isinstance(limit, int):
        raise ApiError.wrong_type("body.max_tokens", "a valid integer", limit)
    if limit is not None and limit > settings.max_model_len:
        raise ApiError.bad_request(
            f"max_tokens={limit} cannot be greater than max_model_len={settings.max_model_len}. "
            "Please request fewer output tokens.",
            "max_tokens",
            limit,
        )
    if prompt > settings.max_model_len:
        # vLLM stops counting one token past the limit, so it never says more.
        least = settings.max_model_len + 1
        raise ApiError.bad_request(
            f"This model's maximum context length is {settings.max_model_len} tokens. However, "
            f"your prompt contains at least {least} input tokens, which exceeds this limit even "
            "without any output tokens. Please reduce the length of the input prompt.",
            "input_tokens",
            least,
        )


def _include_usage(body: Mapping[str, Any]) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _tools(body: Mapping[str, Any], settings: Settings) -> tuple[tuple[Tool, ...], str]:
    """The tools the answer may call and how free it is to; sentences of vLLM 0.32."""
    given = body.get("tools")
    if given == []:
        raise ApiError.bad_request(
            "`tools` must not be an empty array. Either provide at least one tool or omit the "
            "field entirely.",
            "tools",
        )
    choice = body.get("tool_choice", "auto" if given else "none")
    if choice in ("none", None):
        return (), "none"
    if given is None:
        raise ApiError.bad_request("When using `tool_choice`, `tools` must be set.", "tool_choice")
    tools = tuple(_tool(item) for item in given)
    if isinstance(choice, Mapping):
        return _named(choice, tools), "named"
    if choice not in ("auto", "required"):
        raise ApiError.bad_request(
            f'Invalid value for `tool_choice`: {choice}! Only named tools, "none", "auto" or '
            '"required" are supported.',
            "tool_choice",
        )
    if not settings.auto_tool_choice:
        raise ApiError.bad_request(
            '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
            if choice == "auto"
            else f'tool_choice="{choice}" requires --tool-call-parser to be set'
        )
    return tools, str(choice)


def _tool(item: Mapping[str, Any]) -> Tool:
    function = item.get("function") or {}
    if not function.get("name"):
        raise ApiError.wrong_type("body.tools.0.function.name", "a valid string", None)
    return Tool(str(function["name"]), function.get("parameters") or {})


def _named(choice: Mapping[str, Any], tools: Sequence[Tool]) -> tuple[Tool, ...]:
    name = (choice.get("function") or {}).get("name")
    found = tuple(tool for tool in tools if tool.name == name)
    if not found:
        raise ApiError.bad_request(
            "The tool specified in `tool_choice` does not match any of the specified `tools`",
            "tool_choice",
        )
    return found[:1]


def _shows_media(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = () if isinstance(content, str) else content or ()
    return any(part.get("type") in MEDIA_PARTS for part in parts)


def _conversation(messages: Sequence[Mapping[str, Any]], tools: Any) -> Prompt:
    texts: list[str] = [json.dumps(tools)] if tools else []
    images, image_tokens = 0, 0
    for message in messages:
        for kind, value in _parts(message):
            if kind == "text":
                texts.append(value)
            else:
                images += 1
                image_tokens += vision.data_url_tokens(value)
    text = "\n".join(texts)
    return Prompt(
        text=text,
        text_tokens=tokens.count(text) + TEMPLATE_TOKENS * len(messages),
        images=images,
        image_tokens=image_tokens,
        ends_with_tool_result=messages[-1].get("role") == "tool",
    )


def _parts(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The message's content as (text or image, text or URL) pairs."""
    content = message.get("content")
    calls = [("text", json.dumps(call)) for call in message.get("tool_calls") or ()]
    if isinstance(content, str):
        return [("text", content), *calls]
    return [_part(part) for part in content or ()] + calls


def _part(part: Mapping[str, Any]) -> tuple[str, str]:
    kind = part.get("type", "")
    if kind not in MEDIA_PARTS:
        return "text", str(part.get("text", ""))
    if MEDIA_PARTS[kind] == "video":
        raise ApiError.bad_request(
            "At most 0 video(s) may be provided in one prompt. "
            "Set `--limit-mm-per-prompt` to increase this limit.",
            "video",
        )
    url = part.get(kind) or ""
    return "image", str(url.get("url", "") if isinstance(url, Mapping) else url)
