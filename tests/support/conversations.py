"""One conversation as chat completions, messages and responses write it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from gateway_fakes import PNG_640x480

DATA = PNG_640x480.partition(",")[2]
OTHER = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAUCAYAAAAfFcSJ"
IMAGES = {"large": PNG_640x480, "small": OTHER}
TOOLS = (("click", "Click a point", {"type": "object", "properties": {"x": {"type": "integer"}}}),)


@dataclass(frozen=True)
class Said:
    """One message of the conversation: its text, images, calls, or the call whose result it is."""

    role: str
    text: str = ""
    images: tuple[str, ...] = ()
    calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    answers: str = ""


@dataclass(frozen=True)
class Told:
    """A request."""

    said: tuple[Said, ...]
    system: str = ""
    tools: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    choice: str = ""
    schema: bool = False
    thinking: bool | None = None
    user: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def as_chat(told: Told) -> dict[str, Any]:
    """The body of a chat completion, without its model."""
    messages: list[dict[str, Any]] = []
    if told.system:
        messages.append({"role": "system", "content": told.system})
    for said in told.said:
        message: dict[str, Any] = {"role": said.role}
        parts: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
        parts += [{"type": "image_url", "image_url": {"url": IMAGES[i]}} for i in said.images]
        message["content"] = parts
        if said.calls:
            message["tool_calls"] = [
                {
                    "id": identity,
                    "type": "function",
                    "function": {"name": name, "arguments": json.dumps(values)},
                }
                for identity, name, values in said.calls
            ]
        if said.answers:
            message["tool_call_id"] = said.answers
        messages.append(message)
    body: dict[str, Any] = {"messages": messages}
    if told.tools:
        body["tools"] = [
            {"type": "function", "function": {"name": n, "description": d, "parameters": p}}
            for n, d, p in told.tools
        ]
    if told.choice:
        named = {"type": "function", "function": {"name": "click"}}
        body["tool_choice"] = named if told.choice == "named" else told.choice
    if told.schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a"}}
    if told.thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": told.thinking}
    if told.user:
        body["metadata"] = {"user_id": told.user}
    return body | told.fields


def _block(name: str) -> dict[str, Any]:
    data = IMAGES[name].partition(",")[2]
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


def as_messages(told: Told) -> dict[str, Any]:
    """The body of a message of Anthropic's API, without its model."""
    messages: list[dict[str, Any]] = []
    for said in told.said:
        blocks: list[dict[str, Any]] = [{"type": "text", "text": said.text}] if said.text else []
        blocks += map(_block, said.images)
        if said.answers:
            result = {"type": "tool_result", "tool_use_id": said.answers, "content": blocks}
            # Results of parallel calls come in one message.
            if messages and messages[-1]["content"][-1]["type"] == "tool_result":
                messages[-1]["content"].append(result)
            else:
                messages.append({"role": "user", "content": [result]})
            continue
        blocks += [
            {"type": "tool_use", "id": identity, "name": name, "input": values}
            for identity, name, values in said.calls
        ]
        messages.append({"role": said.role, "content": blocks})
    body: dict[str, Any] = {"messages": messages}
    if told.system:
        body["system"] = [{"type": "text", "text": told.system}]
    if told.tools:
        body["tools"] = [{"name": n, "description": d, "input_schema": p} for n, d, p in told.tools]
    if told.choice:
        kinds = {"required": "any", "named": "tool"}
        body["tool_choice"] = {"type": kinds.get(told.choice, told.choice)}
    if told.schema:
        body["output_config"] = {"format": {"type": "json_schema", "schema": {}}}
    if told.thinking is not None:
        body["thinking"] = {"type": "enabled" if told.thinking else "disabled"}
    if told.user:
        body["metadata"] = {"user_id": told.user}
    return body | told.fields


def _items(said: Said) -> list[dict[str, Any]]:
    kind = "output_text" if said.role == "assistant" else "input_text"
    parts: list[dict[str, Any]] = [{"type": kind, "text": said.text}] if said.text else []
    parts += [{"type": "input_image", "image_url": IMAGES[i]} for i in said.images]
    if said.answers:
        return [{"type": "function_call_output", "call_id": said.answers, "output": parts}]
    items: list[dict[str, Any]] = []
    if parts or not said.calls:
        items.append({"type": "message", "role": said.role, "content": parts})
    for identity, name, values in said.calls:
        call = {"type": "function_call", "call_id": identity, "name": name}
        items.append(call | {"arguments": json.dumps(values, indent=1)})
    return items


def as_responses(told: Told) -> dict[str, Any]:
    """The body of a response, without its model."""
    items = [item for said in told.said for item in _items(said)]
    body: dict[str, Any] = {"input": items}
    if told.system:
        body["instructions"] = told.system
    if told.tools:
        body["tools"] = [
            {"type": "function", "name": n, "description": d, "parameters": p}
            for n, d, p in told.tools
        ]
    if told.choice:
        named = {"type": "function", "name": "click"}
        body["tool_choice"] = named if told.choice == "named" else told.choice
    if told.schema:
        body["text"] = {"format": {"type": "json_schema", "name": "a", "schema": {}}}
    if told.thinking is not None:
        body["reasoning"] = {"effort": "high" if told.thinking else "none"}
    if told.user:
        body["metadata"] = {"user_id": told.user}
    fields = {("max_output_tokens" if k == "max_tokens" else k): v for k, v in told.fields.items()}
    return body | fields


def body(fields: dict[str, Any]) -> bytes:
    """The fields with the automatic model's name, as JSON."""
    return json.dumps({"model": "glm", **fields}).encode()
