"""What holds however bytes are cut, and whenever somebody leaves."""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway_fakes import Call, chat, engines, events, eventually, run, running
from glm_serving.gateway.sse import MAX_TORN_BYTES, EventStream
from glm_serving.gateway.usage import CHAT, TAIL_BYTES, Tail

STREAM = b"".join(events(6))
CUTS = st.lists(st.integers(0, len(STREAM)), max_size=12)
SLOW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in pieces that end at these offsets."""
    edges = sorted({0, len(data), *at})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(CUTS, st.booleans())
def test_any_cut_of_a_stream_gives_the_same_bytes(at: list[int], windows: bool) -> None:
    data = STREAM.replace(b"\n\n", b"\r\n\r\n") if windows else STREAM
    stream = EventStream()
    out = b""
    for piece in cut(data, at):
        passed = stream.push(piece)
        assert passed == b"" or passed.endswith((b"\n\n", b"\r\n\r\n"))
        out += passed
    assert out + stream.rest() == data
    assert stream.marked == len(events(6)) - 1


@given(st.lists(st.binary(max_size=50), max_size=30))
def test_any_bytes_pass_an_event_stream_unchanged(pieces: list[bytes]) -> None:
    stream = EventStream()
    out = b"".join(stream.push(piece) for piece in pieces)
    assert out + stream.rest() == b"".join(pieces)


def test_an_event_too_long_to_hold_back_is_passed_on_in_pieces() -> None:
    stream = EventStream()
    assert stream.push(b"data: {" + b"x" * MAX_TORN_BYTES)
    assert stream.mid_event
    assert stream.push(b"}\n\n") == b"}\n\n"
    assert not stream.mid_event


@given(CUTS)
def test_usage_is_found_however_the_tail_is_cut(at: list[int]) -> None:
    tail = Tail()
    for piece in cut(b"x" * 3 * TAIL_BYTES + STREAM, at):
        tail.push(piece)
    usage = tail.usage(CHAT)
    assert usage is not None
    assert (usage.prompt, usage.completion) == (5, 6)


def test_usage_in_the_models_own_words_is_not_taken_for_the_engines() -> None:
    tail = Tail()
    tail.push(b'{"content":"{\\"usage\\":{\\"prompt_tokens\\":1}}"}')
    assert tail.usage(CHAT) is None


@SLOW
@given(CUTS)
def test_any_cut_on_the_wire_gives_the_client_the_same_bytes(at: list[int]) -> None:
    async def script(call: Call) -> None:
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(STREAM), STREAM)
        await call.stream_head()
        for piece in cut(framed, at):
            await call.send(piece)
            await asyncio.sleep(0)

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(stream=True))
            assert (got.body, got.complete) == (STREAM, True)

    run(scenario())


@SLOW
@given(at=st.integers(1, len(STREAM)), pause=st.integers(0, 3))
def test_an_engine_lost_at_any_offset_is_never_taken_for_a_clean_end(at: int, pause: int) -> None:
    async def script(call: Call) -> None:
        await call.stream_head()
        await call.chunk(STREAM[:at])
        for _ in range(pause):
            await asyncio.sleep(0)
        call.writer.close()

    async def scenario() -> None:
        async with engines(script) as [engine], running(flash=[engine.url]) as gateway:
            got = await gateway.ask(chat(stream=True))
            assert not got.complete
            whole, _, error = got.body.rpartition(b"data: ")
            assert STREAM.startswith(whole)
            assert b"StreamBroken" in error

    run(scenario())


@SLOW
@given(
    sent=st.integers(0, 200), events_read=st.integers(0, 3), held=st.booleans(), data=st.booleans()
)
def test_an_abort_at_any_moment_leaves_nothing_in_flight(
    sent: int, events_read: int, held: bool, data: bool
) -> None:
    async def script(call: Call) -> None:
        if data:
            await call.stream_head()
            for event in events(2):
                await call.chunk(event)
        await call.gone.wait()

    async def scenario() -> None:
        async with engines(script) as [engine], running() as gateway:
            if not held:
                gateway.endpoints(flash=[engine.url])
            client = await gateway.client()
            body = chat(stream=True)
            head = b"POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\n"
            whole = head + b"content-length: %d\r\n\r\n%s" % (len(body), body)
            await client.send(whole[:sent] if sent < 150 else whole)
            if sent >= 150 and data and not held:
                await client.head()
                await client.reader.readexactly(20 * events_read)
            client.abort()
            await eventually(lambda: gateway.gateway.connections == 0, "the abort is seen")
            for call in engine.calls:
                await asyncio.wait_for(call.gone.wait(), 1)

    run(scenario())
