"""How an answer travels: chat completions and plain completions, whole and streamed."""

from __future__ import annotations

from typing import Any

from glm_dev.simulator import bodies, tokens
from glm_dev.simulator.answers import LENGTH, Answer
from glm_dev.simulator.engine import ABORT
from glm_dev.simulator.httpd import Responder
from glm_dev.simulator.request import Generation
from glm_dev.simulator.settings import Settings

STREAM_TYPE = "text/event-stream; charset=utf-8"


class Chat:
    """One chat completion on its way to the client."""

    prefix = "chatcmpl"

    def __init__(
        self, envelope: bodies.Envelope, wanted: Generation, answer: Answer, settings: Settings
    ) -> None:
        self._envelope = envelope
        self._wanted = wanted
        self._answer = answer
        self._settings = settings
        self._held: dict[str, Any] = {}
        self._parts = bodies.paced(bodies.deltas(envelope, answer), answer.tokens)

    def whole(self, finish: str, written: int) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        message = bodies.chat_message(self._envelope, self._answer)
        if finish == ABORT:
            message["content"] = ""
            message.pop("tool_calls", None)
        counted = bodies.usage(self._wanted, self._answer, self._settings, written)
        return self._envelope.message(bodies.chat_choice(message, finish), counted)

    async def stream(self, out: Responder, index: int) -> None:
        """Send what the token adds; the first also opens the stream."""
        if not out.started:
            await self._open(out)
        parts = list(self._parts[index])
        if self._answer.finish == LENGTH and index == len(self._parts) - 1 and parts:
            # The token that reaches the limit travels with the finish reason.
            self._held = parts.pop()
        for part in parts:
            await out.write(bodies.event(self._envelope.chunk([bodies.chat_delta(part)])))

    async def end_stream(self, out: Responder, finish: str, written: int) -> None:
        """Send the finish reason, the usage where it was asked for, and the end."""
        if not out.started:
            await self._open(out)
        last = {**bodies.chat_delta(self._held, finish), "stop_reason": None}
        fingerprint = {"system_fingerprint": bodies.FINGERPRINT}
        if self._wanted.include_usage:
            counted = bodies.streamed_usage(self._wanted, self._answer, self._settings, written)
            await out.write(bodies.event(self._envelope.chunk([last])))
            whole = self._envelope.chunk([], usage=counted, **fingerprint)
            await out.write(bodies.event(whole))
        else:
            await out.write(bodies.event(self._envelope.chunk([last], **fingerprint)))
        await out.write(bodies.DONE)
        out.end()

    async def _open(self, out: Responder) -> None:
        """Send the headers and the event that only names the role."""
        out.start(200, STREAM_TYPE)
        role = bodies.chat_delta({"role": "assistant", "content": ""})
        del role["token_ids"]
        first = self._envelope.chunk([role], prompt_token_ids=None, prompt_text=None)
        await out.write(bodies.event(first))


class Completion:
    """One plain completion on its way to the client."""

    prefix = "cmpl"

    def __init__(
        self, envelope: bodies.Envelope, wanted: Generation, answer: Answer, settings: Settings
    ) -> None:
        self._envelope = envelope
        self._wanted = wanted
        self._answer = answer
        self._text = answer.parsed.content or ""
        self._settings = settings
        self._parts = bodies.paced(tokens.split(self._text), answer.tokens)

    def whole(self, finish: str, written: int) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        choice = bodies.text_choice("" if finish == ABORT else self._text, finish)
        empty = dict.fromkeys(("prompt_logprobs", "prompt_token_ids", "routed_experts"))
        counted = bodies.usage(self._wanted, self._answer, self._settings, written)
        counted["completion_tokens_details"] = None
        if counted["prompt_tokens_details"]:
            counted["prompt_tokens_details"]["created_cache_tokens"] = None
        return self._envelope.text({**choice, **empty}, counted)

    async def stream(self, out: Responder, index: int) -> None:
        """Send what the token adds; the first also opens the stream."""
        if not out.started:
            out.start(200, STREAM_TYPE)
        for part in self._parts[index]:
            await out.write(
                bodies.event(self._envelope.text_chunk([bodies.text_choice(part, None)]))
            )

    async def end_stream(self, out: Responder, finish: str, written: int) -> None:
        """Send the finish reason, the usage where it was asked for, and the end."""
        if not out.started:
            out.start(200, STREAM_TYPE)
        await out.write(bodies.event(self._envelope.text_chunk([bodies.text_choice("", finish)])))
        if self._wanted.include_usage:
            counted = bodies.streamed_usage(self._wanted, self._answer, self._settings, written)
            await out.write(bodies.event(self._envelope.text_chunk([], usage=counted)))
        await out.write(bodies.DONE)
        out.end()
