"""The labelled requests of tests/data/routing, as bodies of chat completions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "data" / "routing"
HALVES = ("tuning", "held-out")
_MEDIA = re.compile(r"\[(?:(\d+)x(\d+)|(video)|text (\d+))\]\s*")
_PROSE = "The minutes of the meeting were read and approved without changes. "


@dataclass(frozen=True, slots=True)
class Labelled:
    """One request with the task that it is and the tier that should serve it."""

    id: str
    task: str
    tier: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def labelled(half: str) -> list[Labelled]:
    """Every request of one half of the set: `tuning` or `held-out`."""
    lines = (FOLDER / f"{half}.jsonl").read_text().splitlines()
    return [_labelled(json.loads(line)) for line in lines]


def _labelled(row: Mapping[str, Any]) -> Labelled:
    fields = {key: row[key] for key in ("max_tokens", "tool_choice") if key in row}
    if "tools" in row:
        fields["tools"] = [_tool(name) for name in row["tools"]]
    if "response_format" in row:
        fields["response_format"] = {"type": row["response_format"]}
    body = {"model": row.get("model", "glm"), "messages": _messages(row["messages"]), **fields}
    encoded = json.dumps(body, ensure_ascii=False).encode()
    return Labelled(row["id"], row["task"], row["tier"], encoded, row.get("headers", {}))


@cache
def _tools() -> Mapping[str, Any]:
    return dict(json.loads((FOLDER / "tools.json").read_text()))


def _tool(name: str) -> dict[str, Any]:
    known = _tools()[name]
    properties = {parameter: {"type": "string"} for parameter in known["parameters"]}
    parameters = {"type": "object", "properties": properties}
    function = {"name": name, "description": known["description"], "parameters": parameters}
    return {"type": "function", "function": function}


def _messages(pairs: list[list[str]]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for index, (role, text) in enumerate(pairs):
        if role == "call":
            name, _, arguments = text.partition(" ")
            function = {"name": name, "arguments": arguments}
            call = {"id": f"call-{index}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif role == "result":
            # A result answers the call just before it.
            identity = {"role": "tool", "tool_call_id": f"call-{index - 1}"}
            messages.append({**identity, "content": _content(text)})
        else:
            messages.append({"role": role, "content": _content(text)})
    return messages


def _content(text: str) -> str | list[dict[str, Any]]:
    """Plain text as a string, with media as parts."""
    parts: list[dict[str, Any]] = []
    prose = ""
    while match := _MEDIA.match(text):
        width, height, video, chars = match.groups()
        if width:
            url = png(int(width), int(height))
            parts.append({"type": "image_url", "image_url": {"url": url}})
        elif video:
            parts.append({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}})
        else:
            prose = (_PROSE * (int(chars) // len(_PROSE) + 1))[: int(chars)]
        text = text[match.end() :]
    text = f"{prose}{text}"
    if not parts:
        return text
    return [*parts, {"type": "text", "text": text}] if text else parts


def png(width: int, height: int) -> str:
    """A data URL with the head of a PNG of this size, which is all that the gateway reads."""
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size + b"\x08\x02\0\0\0" + b"\0" * 4
    return "data:image/png;base64," + base64.b64encode(head).decode()
