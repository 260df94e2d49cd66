"""Answers in the shapes that vLLM 0.32 sends, field by field."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from glm_dev.simulator import tokens
from glm_dev.simulator.answers import Answer
from glm_dev.simulator.parsers import Call
from glm_dev.simulator.request import Generation
from glm_dev.simulator.settings import Settings

T = TypeVar("T")

FINGERPRINT = "vllm-0.32.0-simulated"
CACHED = {"cached_tokens": 0, "created_cache_tokens": 0}
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Envelope:
    """What all parts of one answer share."""

    id: str
    created: int
    model: str

    def chunk(self, choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """One event of a chat stream."""
        return self._whole("chat.completion.chunk", choices, extra)

    def message(self, choice: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        """A whole chat answer, with the fields that vLLM leaves empty."""
        extra = {
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage,
            **dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "prompt_text")),
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")),
        }
        return self._whole("chat.completion", [choice], extra)

    def text(self, choice: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        """A whole plain completion, with the fields that vLLM leaves empty."""
        extra = {
            "service_tier": None,
            "system_fingerprint": FINGERPRINT,
            "usage": usage,
            **dict.fromkeys(("kv_transfer_params", "ec_transfer_params", "metrics")),
        }
        return self._whole("text_completion", [choice], extra)

    def text_chunk(self, choices: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
        """One event of a plain completion's stream."""
        return self._whole("text_completion", choices, extra)

    def _whole(
        self, kind: str, choices: list[dict[str, Any]], extra: dict[str, Any]
    ) -> dict[str, Any]:
        base = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**base, "choices": choices, **extra}


def usage(request: Generation, answer: Answer, settings: Settings, written: int) -> dict[str, Any]:
    """Token counts of a whole chat answer; `written` tokens were really sent."""
    details: dict[str, Any] | None = None
    if settings.prompt_tokens_details:
        images = {"image": request.prompt.image_tokens} if request.prompt.images else None
        details = {**CACHED, "multimodal_tokens": images}
    thought = {"reasoning_tokens": min(answer.reasoning_tokens, written)}
    return {
        **counts(request, written),
        "prompt_tokens_details": details,
        "completion_tokens_details": thought if settings.reasoning_parser else None,
    }


def streamed_usage(
    request: Generation, answer: Answer, settings: Settings, written: int
) -> dict[str, Any]:
    """Token counts at the end of a stream: without the fields that nobody set."""
    whole = usage(request, answer, settings, written)
    if whole["prompt_tokens_details"]:
        whole["prompt_tokens_details"] = CACHED
    return {name: value for name, value in whole.items() if value is not None}


def counts(request: Generation, written: int) -> dict[str, Any]:
    """The three numbers of every usage."""
    prompt = request.prompt.tokens
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + written,
        "completion_tokens": written,
    }


def call_id(envelope: Envelope, index: int) -> str:
    """An id of a tool call, the same whenever the request is."""
    digest = hashlib.sha256(f"{envelope.id}/{index}".encode()).hexdigest()
    return f"chatcmpl-tool-{digest[:16]}"


def chat_message(envelope: Envelope, answer: Answer) -> dict[str, Any]:
    """The assistant's message of an answer that is not streamed."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.parsed.content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if answer.parsed.calls:
        message["tool_calls"] = [
            {"id": call_id(envelope, index), "type": "function", "function": _function(call)}
            for index, call in enumerate(answer.parsed.calls)
        ]
    return {**message, "reasoning": answer.parsed.reasoning}


def _function(call: Call) -> dict[str, str]:
    return {"name": call.name, "arguments": call.arguments}


def chat_choice(message: dict[str, Any], finish: str) -> dict[str, Any]:
    """The one choice of an answer that is not streamed."""
    return {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }


def text_choice(text: str, finish: str | None) -> dict[str, Any]:
    """The one choice of a plain completion, whole or streamed."""
    return {
        "index": 0,
        "text": text,
        "logprobs": None,
        "finish_reason": finish,
        "stop_reason": None,
        "token_ids": None,
    }


def chat_delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """The one choice of a chat stream's event."""
    return {
        "index": 0,
        "delta": delta,
        "logprobs": None,
        "finish_reason": finish,
        "token_ids": None,
    }


def deltas(envelope: Envelope, answer: Answer) -> list[dict[str, Any]]:
    """The answer cut into what each token adds to the stream, in order."""
    parsed = answer.parsed
    found: list[dict[str, Any]] = []
    found += [{"reasoning": piece} for piece in tokens.split(parsed.reasoning or "")]
    found += [{"content": piece} for piece in tokens.split(parsed.content or "")]
    for index, call in enumerate(parsed.calls):
        found += _call_deltas(index, call_id(envelope, index), call)
    return found


def _call_deltas(index: int, identity: str, call: Call) -> Iterator[dict[str, Any]]:
    head = {"name": call.name}
    first = {"id": identity, "type": "function", "index": index, "function": head}
    yield {"tool_calls": [first]}
    for piece in tokens.split(call.arguments):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def paced(parts: Sequence[T], count: int) -> list[Sequence[T]]:
    """Spread the parts over `count` tokens: a parser holds some back, and sends more later."""
    count = max(count, 1)
    bounds = [round(len(parts) * index / count) for index in range(count + 1)]
    return [parts[low:high] for low, high in itertools.pairwise(bounds)]


def event(value: Any) -> bytes:
    """One server-sent event."""
    return (
        b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
    )


PERMISSION: dict[str, Any] = {
    "id": "modelperm-simulated",
    "object": "model_permission",
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}


def models(settings: Settings, created: int) -> dict[str, Any]:
    """`/v1/models`: one card for each served name."""
    cards: list[dict[str, Any]] = [
        {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": settings.model,
            "parent": None,
            "max_model_len": settings.max_model_len,
            "permission": [PERMISSION | {"created": created}],
        }
        for name in settings.served_names
    ]
    return {"object": "list", "data": cards}
