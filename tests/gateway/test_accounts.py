"""What is written down of a request: its metrics, and its line in the access log."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway_fakes import Call, PNG_640x480, answer, chat, engines, events, run, running

SEE = [
    {"type": "text", "text": "read the chart"},
    {"type": "image_url", "image_url": {"url": PNG_640x480}},
]
TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_images_are_counted_by_the_tokens_they_take() -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            body = chat(messages=[{"role": "user", "content": SEE}])
            await gateway.ask(body, x_glm_task="ocr-and-charts")
            labels = {"tier": "flash", "source": "estimated", "team": "none"}
            assert gateway.metric("glm_gateway_image_tokens_total", **labels) == 391
            assert gateway.log()[-1]["imageTokens"] == 391
            labels = {"tier": "flash", "task": "ocr-and-charts", "status": "200"}
            reason = gateway.log()[-1]["reason"]
            assert gateway.metric("glm_gateway_requests_total", reason=reason, **labels) == 1

    run(scenario())


def test_the_time_between_tokens_is_that_of_the_stream_after_its_first() -> None:
    pauses = 3

    async def script(call: Call) -> None:
        await call.stream_head()
        for event in events(pauses):
            await asyncio.sleep(0.02)
            await call.chunk(event)
        await call.end()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat(stream=True))
            total = gateway.metric("glm_gateway_request_seconds_sum", tier="flash")
            first = gateway.metric("glm_gateway_first_token_seconds_sum", tier="flash")
            between = gateway.metric("glm_gateway_inter_token_seconds_sum", tier="flash")
            assert between == pytest.approx((total - first) / (pauses - 1))
            assert between > 0.02

    run(scenario())


def test_what_is_no_whole_stream_has_no_time_between_tokens() -> None:
    async def broken(call: Call) -> None:
        await call.stream_head()
        for event in events(3, usage=False)[:3]:
            await call.chunk(event)
        call.writer.transport.abort()

    async def scenario() -> None:
        async with (
            engines(answer, broken) as [whole, torn],
            running(flash=[whole.url], flagship=[torn.url]) as gateway,
        ):
            await gateway.ask(chat())
            await gateway.ask(chat(model="glm-4.6v", stream=True))
            for tier in ("flash", "flagship"):
                assert gateway.metric("glm_gateway_request_seconds_count", tier=tier) == 1
                assert gateway.metric("glm_gateway_inter_token_seconds_count", tier=tier) == 0

    run(scenario())


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"cc-{TRACE}-b7ad6b7169203331-01-later", TRACE),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        ("nonsense", None),
    ],
)
def test_traceparent_is_passed_on_and_its_trace_logged(header: str, trace: str | None) -> None:
    async def scenario() -> None:
        async with engines(answer) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat(), traceparent=header)
            assert engine.calls[0].request.headers["traceparent"] == header
            assert gateway.log()[-1].get("trace") == trace

    run(scenario())


def test_no_text_of_a_prompt_or_an_answer_is_written_down() -> None:
    async def script(call: Call) -> None:
        await call.json(200, {"choices": [{"message": {"content": "tell-nobody-answer"}}]})

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            await gateway.ask(chat("tell-nobody-prompt", user="tell-nobody-user"))
            await gateway.ask(chat("x", model="tell-nobody-model"))
            assert len(gateway.log()) == 2
            metrics = gateway.admin.page(b"GET", b"/metrics").body.decode()
            assert "tell-nobody" not in json.dumps(gateway.log()) + metrics

    run(scenario())
