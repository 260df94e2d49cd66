"""What the simulated model answers. Pure: the same request and seed give the same answer."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import dataclass, replace

from glm_dev.simulator import parsers, schema, tokens
from glm_dev.simulator.parsers import Call, Parsed
from glm_dev.simulator.request import Generation, Tool
from glm_dev.simulator.settings import Behaviour, Settings

FILLER = " and the picture shows a window with a table of values beside a button"
THOUGHT = "The user wants an answer; I look at what is there and say it."
STOP, LENGTH, TOOL_CALLS = "stop", "length", "tool_calls"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it is sent: its parts and how many tokens the model wrote for it."""

    parsed: Parsed
    tokens: int
    finish: str
    reasoning_tokens: int = 0


def answer(request: Generation, settings: Settings, behaviour: Behaviour) -> Answer:
    """Decide what the model writes and read it with the parsers the engine was started with."""
    rng = _generator(request, behaviour.seed)
    if request.tool_choice in ("required", "named"):
        return _forced(request, rng)
    text = _reply(request, settings, behaviour, rng)
    thought = tokens.split(THOUGHT) if request.thinking else []
    written = [*thought, *tokens.split(text)]
    limit = _limit(request, settings)
    cut = len(written) > limit
    kept = "".join(written[len(thought) : limit]) if limit > len(thought) else ""
    parsed = _parsed(kept, request, settings)
    if request.thinking:
        parsed = _with_reasoning(parsed, "".join(thought[:limit]), settings)
    finish = LENGTH if cut else TOOL_CALLS if parsed.calls else STOP
    count = min(len(written), limit)
    return Answer(parsed, count, finish, min(len(thought), count))


def _generator(request: Generation, seed: int) -> random.Random:
    digest = hashlib.sha256(f"{seed}\n{request.prompt.images}\n{request.prompt.text}".encode())
    return random.Random(digest.digest())


def _limit(request: Generation, settings: Settings) -> int:
    room = settings.max_model_len - request.prompt.tokens
    return min(room, request.max_tokens or room)


def _forced(request: Generation, rng: random.Random) -> Answer:
    """`required` and named: the grammar writes the call, so no parser can get it wrong."""
    call = _call(request.tools[0], rng)
    written = tokens.count(call.name) + tokens.count(call.arguments) + 2
    if request.max_tokens is not None and written > request.max_tokens:
        cut = tokens.split(call.arguments)[: max(0, request.max_tokens - 2)]
        call = replace(call, arguments="".join(cut))
        return Answer(Parsed("", (call,)), request.max_tokens, LENGTH)
    # vLLM ends a named call with `stop`, and one that it left to the model with `tool_calls`.
    finish = STOP if request.tool_choice == "named" else TOOL_CALLS
    return Answer(Parsed("", (call,)), written, finish)


def _call(tool: Tool, rng: random.Random) -> Call:
    value = schema.value({"type": "object", **tool.parameters}, rng, tool.parameters)
    return Call(tool.name, json.dumps(value, ensure_ascii=False))


def _reply(
    request: Generation, settings: Settings, behaviour: Behaviour, rng: random.Random
) -> str:
    if request.choices:
        return rng.choice(request.choices)
    if request.tools and not request.prompt.ends_with_tool_result:
        call = _call(request.tools[0], rng)
        return parsers.markup(call.name, json.loads(call.arguments))
    seen = f"{settings.name} saw {request.prompt.images} images"
    after = " and a tool result" if request.prompt.ends_with_tool_result else ""
    return _filled(f"{seen}{after}:", _wanted(request, behaviour))


def _wanted(request: Generation, behaviour: Behaviour) -> int:
    if request.ignore_eos and request.max_tokens:
        return request.max_tokens
    return behaviour.output_tokens


def _filled(text: str, wanted: int) -> str:
    """The text with words appended until it has `wanted` tokens."""
    pieces = tokens.split(text)
    words = itertools.cycle(tokens.split(FILLER))
    missing = max(0, wanted - len(pieces))
    return text + "".join(itertools.islice(words, missing))


def _parsed(text: str, request: Generation, settings: Settings) -> Parsed:
    if request.tool_choice != "auto":
        return Parsed(text)
    return parsers.parse(text, settings.tool_call_parser, request.tools)


def _with_reasoning(parsed: Parsed, thought: str, settings: Settings) -> Parsed:
    """Without a reasoning parser the thought stays in the content, markers and all."""
    if settings.reasoning_parser:
        return replace(parsed, reasoning=thought, content=parsed.content or None)
    return replace(parsed, content=f"<think>{thought}</think>{parsed.content or ''}")
