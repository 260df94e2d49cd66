"""What an engine is asked before it may serve, and what a right answer is. Pure.

Two calls, as research on the real engine showed each finds what the other cannot: a forced call
with an image comes back parsed even with a wrong parser, and an unforced one never shows that
the engine dies at its first image. A model without vision is forced to its call by words alone.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glm_operator.api import reasons

MAX_TOKENS = 512
"""Random weights need up to 120 tokens for a strict call; real ones fewer."""
COLOURS = ("red", "green", "blue")
LITERAL_BIAS, NEWLINE_BIAS = 100, 50
"""Added to logits, whose own size is some tens."""
IMAGE_SIDE = 56
"""Pixels: two by two merged patches of 14, the smallest that both models accept as it is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check. `reason` is that of the pod's condition."""

    ok: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Check:
    """One call and the tool call that must come back."""

    name: str
    body: Mapping[str, Any]
    tool: str
    arguments: Mapping[str, tuple[str, ...]]
    """Argument -> values that are right."""
    failed_reason: str
    literal: str = ""
    """The exact output asked for, where one is; see `steered`."""


def png(side: int = IMAGE_SIDE, colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    """A square image of one colour."""
    rows = (b"\0" + bytes(colour) * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def checks(served_name: str, sees: bool) -> tuple[Check, ...]:
    """The checks of one engine, in order. `sees`: its model takes images."""
    first = image_check(served_name) if sees else text_check(served_name)
    return (first, parser_check(served_name))


def image_check(served_name: str) -> Check:
    """A tiny image and one strict tool that must be called."""
    text = {"type": "text", "text": "Report the colour of the image with the tool."}
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    picture = {"type": "image_url", "image_url": {"url": url}}
    return _colour_check("image", served_name, [picture, text], reasons.IMAGE_CALL_FAILED)


def text_check(served_name: str) -> Check:
    """One strict tool that must be called, for a model that takes no image."""
    text = {"type": "text", "text": "Report the colour of the sky with the tool."}
    return _colour_check("text", served_name, [text], reasons.TEXT_CALL_FAILED)


def _colour_check(name: str, served_name: str, content: list[dict[str, Any]], failed: str) -> Check:
    body = _body(served_name, content) | {
        "tools": [_tool("report_colour", "colour", COLOURS)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    return Check(name, body, "report_colour", {"colour": COLOURS}, failed)


def parser_check(served_name: str) -> Check:
    """The output is held to the model's own spelling of a call: only the right parser reads it."""
    literal = (
        "<tool_call>restart\n<arg_key>server</arg_key>\n<arg_value>a</arg_value>\n</tool_call>"
    )
    text = {"type": "text", "text": "Restart server a."}
    body = _body(served_name, [text]) | {
        "tools": [_tool("restart", "server", ("a", "b"))],
        "tool_choice": "auto",
        "structured_outputs": {"choice": [literal]},
    }
    right = {"server": ("a",)}
    return Check("parser", body, "restart", right, reasons.TOOL_PARSER_FAILED, literal)


def steered(check: Check, tokenized: object, newline: object) -> Check:
    """The check with its literal output preferred, token by token.

    vLLM 0.32 lets a call in the configured parser's spelling stand beside a structured output
    (DelegatingParser.adjust_request): with random weights the wrong parser could write, and read,
    its own. Its spelling goes on with a line break where ours names the tool, so a line break
    is worth less. Answers of /tokenize without tokens change nothing.
    """
    bias = {str(token): LITERAL_BIAS for token in _tokens(tokenized)}
    bias |= {str(token): NEWLINE_BIAS for token in _tokens(newline)}
    return replace(check, body={**check.body, "logit_bias": bias}) if bias else check


def _tokens(answer: object) -> list[int]:
    tokens = answer.get("tokens") if isinstance(answer, Mapping) else None
    return [token for token in tokens if isinstance(token, int)] if tokens else []


def _body(served_name: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "model": served_name,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        # While a model thinks no grammar holds, and a tool call may never come.
        "chat_template_kwargs": {"enable_thinking": False},
    }


def _tool(name: str, argument: str, values: tuple[str, ...]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string", "enum": list(values)}},
        "required": [argument],
        "additionalProperties": False,
    }
    return {
        "type": "function",
        # Without `strict` the arguments may be missing or doubled.
        "function": {"name": name, "strict": True, "parameters": parameters},
    }


def judge(check: Check, status: int, answer: object) -> Verdict:
    """Whether an HTTP answer is the call that was asked for."""
    if status != 200:
        return Verdict(
            False,
            check.failed_reason,
            f"{_expected(check)}, got HTTP status {status}: {_clip(_error_text(answer))}",
        )
    got = _calls(answer)
    if len(got) == 1 and _is_right(check, *got[0]):
        return Verdict(True, reasons.VERIFIED, f"the {check.name} check passed")
    shown = ", ".join(f"{name}({arguments})" for name, arguments in got)
    shown = shown or f"no tool call but the text {_content(answer)!r}"
    return Verdict(False, check.failed_reason, f"{_expected(check)}, got {_clip(shown)}")


def _is_right(check: Check, name: str, arguments: str) -> bool:
    try:
        given = json.loads(arguments)
    except ValueError:
        return False
    if name != check.tool or not isinstance(given, dict) or given.keys() != check.arguments.keys():
        return False
    # Grammars of the engine leave white space around values.
    return all(str(given[key]).strip() in right for key, right in check.arguments.items())


def _expected(check: Check) -> str:
    arguments = ", ".join(f"{key}={'|'.join(right)}" for key, right in check.arguments.items())
    return f"the {check.name} check expected {check.tool}({arguments})"


def _message(answer: object) -> Mapping[str, Any]:
    choices = answer.get("choices") if isinstance(answer, Mapping) else None
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") if isinstance(first, Mapping) else None
    return message if isinstance(message, Mapping) else {}


def _calls(answer: object) -> list[tuple[str, str]]:
    calls = _message(answer).get("tool_calls") or []
    functions = [call.get("function") or {} for call in calls if isinstance(call, Mapping)]
    return [(str(one.get("name")), str(one.get("arguments"))) for one in functions]


def _content(answer: object) -> str:
    return str(_message(answer).get("content") or "")


def _error_text(answer: object) -> str:
    if isinstance(answer, Mapping):
        error = answer.get("error")
        inner = error.get("message") if isinstance(error, Mapping) else None
        return str(inner or answer.get("message") or dict(answer))
    return str(answer)


def _clip(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[:limit] + "..."
