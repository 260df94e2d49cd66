"""The anthropic package against the gateway: answers, and its own typed exceptions."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest

from dialect_answers import answer_any, break_off
from gateway_fakes import Call, Running, config, engines, run, running, with_limits
from glm_serving.gateway import dialects
from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.reasons import HOLD_TIMEOUT

USER: list[Any] = [{"role": "user", "content": "hello"}]
ASK: dict[str, Any] = {"model": "glm", "max_tokens": 16, "messages": USER}
Use = Callable[[anthropic.AsyncAnthropic, Running], Awaitable[None]]


def with_client(use: Use, script: Any = answer_any, **limits: Any) -> None:
    """Use the package against a gateway with one flash engine."""

    async def scenario() -> None:
        async with (
            engines(script) as [engine],
            running(with_limits(config(), **limits), flash=[engine.url]) as gateway,
        ):
            client = anthropic.AsyncAnthropic(
                base_url=f"http://127.0.0.1:{gateway.port}",
                api_key="unused",
                max_retries=0,
                timeout=10,
            )
            async with client:
                await use(client, gateway)

    run(scenario())


def test_answers_streams_counts_and_models() -> None:
    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        whole = await client.messages.create(**ASK)
        assert whole.content[0].type == "text"
        assert whole.content[0].text == "one two three"
        async with client.messages.stream(**ASK) as stream:
            assert "".join([text async for text in stream.text_stream]) == "one two three"
            assert (await stream.get_final_message()).stop_reason == "end_turn"
        assert (await client.messages.count_tokens(model="glm", messages=USER)).input_tokens == 7
        beta = await client.beta.messages.create(**ASK)
        assert beta.usage.output_tokens == 3
        names = [model.id async for model in client.models.list()]
        assert {"glm", "glm-4.6v", "glm-4.6v-flash"} <= set(names)
        assert (await client.models.retrieve("glm-4.6v")).max_input_tokens == 131072

    with_client(use)


@pytest.mark.parametrize(
    ("raised", "kind", "reason", "request_"),
    [
        (anthropic.NotFoundError, "not_found_error", "ModelNotFound", {"model": "claude"}),
        (
            anthropic.BadRequestError,
            "invalid_request_error",
            "InvalidRequest",
            {"extra_headers": {"x-glm-tier": "x"}},
        ),
        (
            anthropic.BadRequestError,
            "invalid_request_error",
            "ContextTooLong",
            {"max_tokens": 10**6},
        ),
        (
            anthropic.RequestTooLargeError,
            "request_too_large",
            "BodyTooLarge",
            {"messages": [{"role": "user", "content": "x" * 9000}]},
        ),
    ],
)
def test_bad_requests_raise_their_type(
    raised: type[anthropic.APIStatusError], kind: str, reason: str, request_: dict[str, Any]
) -> None:
    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        with pytest.raises(raised) as caught:
            await client.messages.create(**ASK | request_)
        assert caught.value.type == kind
        assert error_of(caught.value)["code"] == reason
        assert caught.value.request_id == gateway.log()[-1]["id"]

    with_client(use, max_body_bytes=8000)


def error_of(error: anthropic.APIStatusError) -> dict[str, Any]:
    """The error object of an answer."""
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    return dict(error.body["error"])


def test_a_full_queue_raises_rate_limit_error() -> None:
    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        gateway.endpoints()
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.create(**ASK)
        assert error_of(caught.value)["code"] == "HoldQueueFull"

    with_client(use, max_held_requests=0)


def test_retry_after_stays_within_what_the_package_honours() -> None:
    refusal = Refusal(HOLD_TIMEOUT, wait_seconds=300)
    assert refusal.retry_after(dialects.MESSAGES.max_retry_after_seconds) == 60


def test_a_hold_that_ends_raises_internal_server_error() -> None:
    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        gateway.endpoints()
        with pytest.raises(anthropic.InternalServerError) as caught:
            await client.messages.create(**ASK)
        assert (caught.value.status_code, caught.value.type) == (503, "overloaded_error")

    with_client(use, hold_timeout_seconds=0.05)


@pytest.mark.parametrize("after", [1, 2, 5, 7])
def test_a_stream_that_breaks_raises_its_error(after: int) -> None:
    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        with pytest.raises(anthropic.APIStatusError, match="lost after its first byte") as caught:
            async for _ in await client.messages.create(**ASK, stream=True):
                pass
        assert caught.value.type == "api_error"
        assert error_of(caught.value)["code"] == "StreamBroken"

    with_client(use, functools.partial(break_off, after=after))


def test_the_engines_own_error_is_raised_by_its_status() -> None:
    async def refuse(call: Call) -> None:
        await call.json(400, {"error": {"message": "no such thing", "code": 400}})

    async def use(client: anthropic.AsyncAnthropic, gateway: Running) -> None:
        with pytest.raises(anthropic.BadRequestError, match="no such thing"):
            await client.messages.create(**ASK)

    with_client(use, refuse)
