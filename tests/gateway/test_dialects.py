"""Each API's errors, ends of streams and token counts, over raw sockets."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialect_answers import (
    COUNT_TOKENS,
    EVENTS,
    MESSAGES,
    RESPONSES,
    WHOLE,
    answer_any,
    break_off,
)
from gateway_fakes import Call, Running, chat, engines, eventually, run, running, shorter

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
@pytest.mark.parametrize("query", ["", "?beta=true"])
def test_the_engines_bytes_and_tokens_are_the_clients(path: str, stream: bool, query: str) -> None:
    async def scenario() -> None:
        async with engines(answer_any) as [engine], running(flash=[engine.url]) as gateway:
            body = chat(input="hello", stream=stream, unknown={"kept": 1})
            got = await gateway.ask(body, path + query)
            sent = b"".join(EVENTS[path]()) if stream else json.dumps(WHOLE[path]).encode()
            assert (got.status, got.body, got.complete) == (200, sent, True)
            assert engine.calls[0].request.path == path
            assert engine.calls[0].request.body == body
            line = gateway.log()[-1]
            assert (line["promptTokens"], line["completionTokens"]) == (7, 3)
            assert line["tokenSource"] == "reported"

    run(scenario())


@pytest.mark.parametrize(("path", "words"), [(MESSAGES, 2), (RESPONSES, 2)])
def test_what_a_client_saw_before_it_left_is_estimated(path: str, words: int) -> None:
    opening = {MESSAGES: 2, RESPONSES: 4}[path]
    sent = b"".join(EVENTS[path]()[: opening + words])

    async def endless(call: Call) -> None:
        await call.stream_head()
        await call.chunk(sent)
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(endless) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(input="hello", stream=True), path)
            await client.head()
            seen = b""
            while len(seen) < len(sent):
                seen += await client.chunk() or b""
            client.abort()
            await engine.calls[0].gone.wait()
            await gateway.at_rest()
            line = gateway.log()[-1]
            assert (line["completionTokens"], line["tokenSource"]) == (words, "estimated")

    run(scenario())


@pytest.mark.parametrize("path", [MESSAGES, RESPONSES])
def test_a_broken_stream_has_an_error_event_at_its_end(path: str) -> None:
    async def scenario() -> None:
        script = functools.partial(break_off, after=5)
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(input="hello", stream=True), path)
            sent = b"".join(EVENTS[path]()[:5])
            assert not got.complete
            assert got.body.startswith(sent + b"event: error\ndata: ")
            event = json.loads(got.body[len(sent) :].split(b"data: ", 1)[1])
            assert (event["type"], event["error"]["code"]) == ("error", "StreamBroken")
            if path == RESPONSES:
                assert (event["code"], event["sequence_number"]) == ("StreamBroken", 5)

    run(scenario())


def test_an_engine_that_says_its_own_error_in_a_stream_is_believed() -> None:
    failed = b'event: error\ndata: {"type":"error","error":{"type":"internal_error"}}\n\n'

    async def fails(call: Call) -> None:
        await call.stream_head()
        await call.chunk(EVENTS[MESSAGES]()[0])
        await call.chunk(failed)
        await call.end()

    async def scenario() -> None:
        async with engines(fails) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(input="hello", stream=True), MESSAGES)
            assert got.complete
            assert got.body == EVENTS[MESSAGES]()[0] + failed

    run(scenario())


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (CHAT, {"error"}),
        (COMPLETIONS, {"error"}),
        (RESPONSES, {"error"}),
        ("/v1/models/none", {"error"}),
        (MESSAGES, {"type", "error"}),
        (COUNT_TOKENS, {"type", "error"}),
        ("/v1/messages/batches", {"type", "error"}),
    ],
)
def test_an_error_has_the_shape_of_its_api(path: str, keys: set[str]) -> None:
    async def scenario() -> None:
        async with running() as gateway:
            got = await gateway.ask(b"{", path)
            assert got.status >= 400
            assert set(json.loads(got.body)) == keys
            assert got.headers.get("request-id") == (
                got.headers["x-request-id"] if "type" in keys else None
            )

    run(scenario())


@pytest.mark.parametrize(
    ("path", "length", "param"),
    [
        (CHAT, "max_tokens", "messages"),
        (COMPLETIONS, "max_tokens", "prompt"),
        (MESSAGES, "max_tokens", "messages"),
        (RESPONSES, "max_output_tokens", "input"),
    ],
)
def test_the_field_at_fault_has_the_name_of_its_api(path: str, length: str, param: str) -> None:
    async def scenario() -> None:
        async with running() as gateway:
            got = await gateway.ask(chat(**{param: [], length: 10**6}), path)
            assert (got.error["code"], got.error["param"]) == ("ContextTooLong", param)

    run(scenario())


STREAMS = {path: b"".join(events()) for path, events in EVENTS.items()}


@settings(max_examples=25)
@given(path=st.sampled_from(sorted(STREAMS)), at=st.lists(st.floats(0, 1), max_size=8))
def test_any_cut_of_a_stream_gives_the_same_bytes_and_tokens(path: str, at: list[float]) -> None:
    stream = STREAMS[path]
    edges = sorted({0, len(stream), *(round(len(stream) * part) for part in at)})

    async def script(call: Call) -> None:
        await call.stream_head()
        for begin, end in itertools.pairwise(edges):
            await call.chunk(stream[begin:end])
            await asyncio.sleep(0)
        await call.end()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(input="hello", stream=True), path)
            assert (got.body, got.complete) == (stream, True)
            line = gateway.log()[-1]
            assert (line["promptTokens"], line["completionTokens"]) == (7, 3)

    run(scenario())


@pytest.mark.parametrize("path", sorted(STREAMS))
def test_a_long_answer_is_complete_too(path: str) -> None:
    long = b"y" * 100_000
    stream = STREAMS[path].replace(b"one two three", long)

    async def script(call: Call) -> None:
        await call.stream_head()
        await call.chunk(stream)
        await call.end()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(input="hello", stream=True), path)
            assert (got.body, got.complete) == (stream, True)
            assert gateway.log()[-1]["tokenSource"] == "reported"

    run(scenario())


# --- counting tokens


async def count(gateway: Running, **fields: object) -> tuple[int, str]:
    """The number of tokens, and how it was found."""
    got = await gateway.ask(chat(**fields), COUNT_TOKENS)
    assert got.status == 200
    return json.loads(got.body)["input_tokens"], got.headers["x-glm-decision"]


def test_an_engine_that_serves_counts_and_nothing_looks_like_work() -> None:
    looks: list[int] = []

    async def scenario() -> None:
        async def script(call: Call) -> None:
            looks.append(gateway.gateway.report().tiers["flash"].in_flight)
            await answer_any(call)

        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            assert await count(gateway) == (7, "TokensCounted")
            assert engine.calls[0].request.path == COUNT_TOKENS
            assert looks == [0]
            assert gateway.gateway.report().tiers["flash"].arrivals == 0
            assert gateway.log()[-1]["reason"] == "TokensCounted"

    run(scenario())


def test_a_tier_that_sleeps_is_not_woken_to_count() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            tokens, decision = await count(gateway, text="word " * 1000)
            assert decision == "TokensEstimated"
            assert tokens >= 1000
            flash = gateway.gateway.report().tiers["flash"]
            assert (flash.arrivals, flash.held) == (0, 0)

    run(scenario())


async def breaks(call: Call) -> None:
    call.writer.close()


async def fails(call: Call) -> None:
    await call.json(500, {"error": {"message": "broken"}})


async def babbles(call: Call) -> None:
    await call.json(200, {"input_tokens": "x" * 100_000})


@pytest.mark.parametrize("script", [breaks, fails, babbles])
def test_an_engine_that_cannot_count_is_not_the_clients_trouble(script: object) -> None:
    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            assert (await count(gateway))[1] == "TokensEstimated"

    run(scenario())


def test_an_engine_that_is_gone_or_silent_is_not_waited_for() -> None:
    async def silent(call: Call) -> None:
        await call.gone.wait()

    async def scenario() -> None:
        timings = shorter(count=0.05)
        async with (
            engines(silent) as [engine],
            running(None, timings, flash=[engine.url]) as gateway,
        ):
            assert (await count(gateway))[1] == "TokensEstimated"
            got = await gateway.ask(chat(), COUNT_TOKENS)
            assert "x-glm-replica" not in got.headers
            await engine.calls[0].gone.wait()
            await engine.stop()
            assert (await count(gateway))[1] == "TokensEstimated"

    run(scenario())


def test_a_prompt_that_is_too_long_is_counted_all_the_same() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            tokens, decision = await count(gateway, text="word " * 800_000)
            assert decision == "TokensEstimated"
            assert tokens > 131072

    run(scenario())


def test_the_clients_own_fault_is_told_by_the_engine() -> None:
    async def refuses(call: Call) -> None:
        await call.json(400, {"error": {"message": "no such role"}})

    async def scenario() -> None:
        async with engines(refuses) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(), COUNT_TOKENS)
            assert (got.status, json.loads(got.body)) == (
                400,
                {"error": {"message": "no such role"}},
            )

    run(scenario())


def test_a_client_that_leaves_its_count_leaves_nothing() -> None:
    async def silent(call: Call) -> None:
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(silent) as [engine], running(flash=[engine.url]) as gateway:
            client = await gateway.client()
            await client.request(chat(), COUNT_TOKENS)
            await eventually(lambda: engine.calls, "the engine was asked")
            client.abort()
            await engine.calls[0].gone.wait()
            await gateway.at_rest()
            assert gateway.log()[-1]["error"] == "ClientClosed"

    run(scenario())


# --- a stateless API


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("background", True),
    ],
)
def test_a_response_that_needs_a_memory_is_told_to_send_the_whole_input(
    field: str, value: object
) -> None:
    async def scenario() -> None:
        async with engines(answer_any) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(input="hello", **{field: value}), RESPONSES)
            assert (got.status, got.error["param"]) == (400, field)
            assert "send the whole input" in got.error["message"]
            assert not engine.calls

    run(scenario())


def test_an_item_that_only_refers_to_another_is_told_so_too() -> None:
    async def scenario() -> None:
        async with running() as gateway:
            items = [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "msg_1"}]
            got = await gateway.ask(chat(input=items), RESPONSES)
            assert (got.status, got.error["param"]) == (400, "input[1]")
            assert "send the whole input" in got.error["message"]

    run(scenario())


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "prompt", "background"])
def test_a_response_may_say_that_it_needs_no_memory(field: str) -> None:
    async def scenario() -> None:
        async with engines(answer_any) as [engine], running(flash=[engine.url]) as gateway:
            fields = {field: False if field == "background" else None, "store": True}
            got = await gateway.ask(chat(input="hello", **fields), RESPONSES)
            assert got.status == 200

    run(scenario())
