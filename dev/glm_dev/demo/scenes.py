"""The requests of the demo, sent with the openai package, and what a right answer is.

The weights are random, so right means: status, tier, reason, and arguments valid against the
tool's schema. Wording is never judged.
"""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import openai
from PIL import Image, ImageDraw

BUTTONS = ("save", "cancel", "help")
CLICK_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "click",
        "description": "Click a button on the screen.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"button": {"type": "string", "enum": list(BUTTONS)}},
            "required": ["button"],
            "additionalProperties": False,
        },
    },
}
NO_THINKING: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one scene."""

    scene: str
    status: int
    tier: str
    replica: str
    decision: str
    request_id: str
    seconds: float
    outcome: str
    wrong: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """True when nothing is wrong with the answer."""
        return not self.wrong


def screenshot(highlight: str) -> str:
    """A small drawn dialog with three buttons, as a data URL; one button is highlighted."""
    image = Image.new("RGB", (224, 112), "white")
    pen = ImageDraw.Draw(image)
    for index, name in enumerate(BUTTONS):
        left = 8 + index * 72
        pen.rectangle((left, 70, left + 64, 100), fill="gold" if name == highlight else "lightgray")
        pen.text((left + 12, 78), name, fill="black")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def see_and_click(text: str, image: str) -> dict[str, Any]:
    """A user message with one image."""
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": image}},
        ],
    }


def loop_with_image_result(call: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conversation after one tool call whose result is a screenshot."""
    return [
        see_and_click("Save the document.", screenshot("save")),
        {"role": "assistant", "content": "", "tool_calls": [dict(call)]},
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": [
                {"type": "text", "text": "clicked"},
                {"type": "image_url", "image_url": {"url": screenshot("help")}},
            ],
        },
    ]


def wrong_arguments(arguments: str) -> tuple[str, ...]:
    """Why the arguments do not fit the click tool's schema; empty when they do."""
    try:
        value = json.loads(arguments)
    except json.JSONDecodeError:
        return (f"arguments are not JSON: {arguments!r}",)
    if not isinstance(value, dict) or set(value) != {"button"}:
        return (f"arguments must hold exactly `button`: {arguments}",)
    # vLLM's grammar lets white space stand around an enum value (vllm-glm.md section 6.4).
    if str(value["button"]).strip() not in BUTTONS:
        return (f"button {value['button']!r} is not one of {', '.join(BUTTONS)}",)
    return ()


class Client:
    """Sends scenes to one gateway through the openai package, without its own retries."""

    def __init__(self, base_url: str, timeout_seconds: float = 400.0) -> None:
        self._openai = openai.OpenAI(
            base_url=f"{base_url}/v1", api_key="unused", max_retries=0, timeout=timeout_seconds
        )

    def close(self) -> None:
        """Close the connections."""
        self._openai.close()

    def models(self) -> list[str]:
        """The model names that the gateway offers. Loads the client too, so no time is told."""
        return [model.id for model in self._openai.models.list()]

    def ask(
        self, scene: str, messages: list[dict[str, Any]], *, tier: str, **extra: Any
    ) -> tuple[Answer, dict[str, Any] | None]:
        """Send one request that is not streamed; returns the answer and its tool call, if any."""
        started = time.monotonic()
        body = {"model": "glm", "max_tokens": 300, **extra}
        raw = self._openai.chat.completions.with_raw_response.create(
            messages=messages,  # type: ignore[arg-type]
            extra_body=NO_THINKING,
            **body,
        )
        seconds = time.monotonic() - started
        choice = raw.parse().choices[0]
        calls = [c.model_dump() for c in choice.message.tool_calls or []]
        wrong: list[str] = []
        if "tools" in extra and not calls:
            wrong.append("no tool call came back")
        if calls:
            wrong.extend(wrong_arguments(calls[0]["function"]["arguments"]))
        outcome = (
            f"{calls[0]['function']['name']}({calls[0]['function']['arguments']})"
            if calls
            else f"{len(choice.message.content or '')} characters, {choice.finish_reason}"
        )
        answer = _answer(scene, raw.http_response.status_code, raw.headers, seconds, outcome)
        return _judged(answer, tier, wrong), (calls[0] if calls else None)

    def stream(self, scene: str, messages: list[dict[str, Any]], *, tier: str) -> Answer:
        """Send one streamed request and count what arrives."""
        started = time.monotonic()
        raw = self._openai.chat.completions.with_raw_response.create(
            model="glm",
            messages=messages,  # type: ignore[arg-type]
            max_tokens=48,
            stream=True,
            extra_body=NO_THINKING,
        )
        chunks, finish, first = 0, None, 0.0
        stream: Any = raw.parse()
        for chunk in stream:
            first = first or time.monotonic() - started
            chunks += 1
            if chunk.choices:
                finish = chunk.choices[0].finish_reason or finish
        wrong = [] if finish and chunks > 1 else [f"the stream ended after {chunks} chunks"]
        outcome = f"{chunks} chunks, first after {first:.2f} s, {finish}"
        seconds = time.monotonic() - started
        answer = _answer(scene, raw.http_response.status_code, raw.headers, seconds, outcome)
        return _judged(answer, tier, wrong)

    def leave_early(self, messages: list[dict[str, Any]]) -> None:
        """Ask for a stream and close it after its first piece."""
        stream: Any = self._openai.chat.completions.create(
            model="glm",
            messages=messages,  # type: ignore[arg-type]
            max_tokens=200,
            stream=True,
        )
        with stream:
            next(iter(stream))


def _answer(
    scene: str, status: int, headers: Mapping[str, str], seconds: float, outcome: str
) -> Answer:
    return Answer(
        scene=scene,
        status=status,
        tier=headers.get("x-glm-tier", ""),
        replica=headers.get("x-glm-replica", ""),
        decision=headers.get("x-glm-decision", ""),
        request_id=headers.get("x-request-id", ""),
        seconds=seconds,
        outcome=outcome,
    )


def _judged(answer: Answer, tier: str, wrong: list[str]) -> Answer:
    if answer.status != 200:
        wrong.append(f"status {answer.status}")
    if answer.tier != tier:
        wrong.append(f"tier {answer.tier or 'missing'}, expected {tier}")
    headers = ("replica", "decision", "request_id")
    wrong.extend(f"header for {h} is missing" for h in headers if not getattr(answer, h))
    return replace(answer, wrong=tuple(wrong))
