"""Tool call parsers that behave like vLLM's: what the model wrote becomes calls, or stays text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glm_dev.simulator.request import Tool
from glm_dev.simulator.settings import JSON_PARSERS, NATIVE_PARSERS

_CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)
_ARGUMENT = re.compile(
    r"<arg_key>(?P<key>.*?)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call; `arguments` is the JSON text that clients get."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """An answer after the parsers."""

    content: str | None
    calls: tuple[Call, ...] = ()
    reasoning: str | None = None


def markup(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as GLM-4.6V writes it; the format of its chat template."""
    parts = [
        f"<arg_key>{key}</arg_key>\n<arg_value>{_written(value)}</arg_value>\n"
        for key, value in arguments.items()
    ]
    return f"<tool_call>{name}\n{''.join(parts)}</tool_call>"


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parse(text: str, parser: str, tools: tuple[Tool, ...]) -> Parsed:
    """Read calls with the named parser; a parser for another family leaves the text alone."""
    found = _CALL.findall(text)
    if not found or not tools:
        return Parsed(text)
    if parser in NATIVE_PARSERS:
        known = {tool.name: tool for tool in tools}
        calls = tuple(_native(item, known) for item in found)
    elif parser in JSON_PARSERS:
        try:
            calls = tuple(_json(item) for item in found)
        except (ValueError, KeyError, TypeError):
            return Parsed(text)
    else:
        return Parsed(text)
    before = text.partition("<tool_call>")[0].strip()
    return Parsed(before or None, calls)


def _native(text: str, known: Mapping[str, Tool]) -> Call:
    name = text.partition("<arg_key>")[0].strip()
    properties = known[name].parameters.get("properties", {}) if name in known else {}
    arguments = {
        match["key"].strip(): _typed(match["value"], properties.get(match["key"].strip(), {}))
        for match in _ARGUMENT.finditer(text)
    }
    return Call(name, json.dumps(arguments, ensure_ascii=False))


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """The markup has no types: the tool's schema says whether a value is text."""
    if schema.get("type", "string") == "string":
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _json(text: str) -> Call:
    value = json.loads(text)
    return Call(str(value["name"]), json.dumps(value["arguments"], ensure_ascii=False))
