"""The engine simulator over real sockets: vLLM's answers, errors, parsers and counters."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glm_dev.simulator import vision
from glm_serving.gateway import images
from simulators import POST, Engine, simulated

RESTART: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "restart",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "server": {"type": "string", "enum": ["a", "b"]},
                "times": {"type": "integer", "minimum": 2, "maximum": 4},
            },
            "required": ["server", "times"],
            "additionalProperties": False,
        },
    },
}
NATIVE = (
    "<tool_call>restart\n<arg_key>server</arg_key>\n<arg_value>a</arg_value>\n"
    "<arg_key>times</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
)
PNG = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def look(*images: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with simulated() as found:
        yield found


def call_of(reply: Any) -> dict[str, Any]:
    message = reply.value["choices"][0]["message"]
    (call,) = message["tool_calls"]
    return {"name": call["function"]["name"], **json.loads(call["function"]["arguments"])}


def assert_valid(call: dict[str, Any]) -> None:
    assert call["name"] == "restart"
    assert call["server"] in ("a", "b")
    assert call["times"] in (2, 3, 4)


@pytest.mark.parametrize(
    "choice", ["auto", "required", {"type": "function", "function": {"name": "restart"}}]
)
def test_tool_call_has_arguments_that_fit_the_schema(engine: Engine, choice: Any) -> None:
    reply = engine.chat(tools=[RESTART], tool_choice=choice)
    assert_valid(call_of(reply))


def test_streamed_tool_call_joins_to_valid_arguments(engine: Engine) -> None:
    events = engine.chat(tools=[RESTART], tool_choice="required", stream=True).events()
    deltas = [e["choices"][0]["delta"] for e in events if e["choices"]]
    parts = [d["tool_calls"][0]["function"] for d in deltas if "tool_calls" in d]
    arguments = json.loads("".join(part.get("arguments", "") for part in parts))
    assert_valid({"name": parts[0]["name"], **arguments})
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def constrained(engine: Engine) -> dict[str, Any]:
    reply = engine.chat(
        tools=[RESTART], tool_choice="auto", structured_outputs={"choice": [NATIVE]}
    )
    return dict(reply.value["choices"][0]["message"])


def test_the_models_own_parser_turns_the_literal_call_into_a_tool_call(engine: Engine) -> None:
    (call,) = constrained(engine)["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"server": "a", "times": 3}


def test_a_foreign_parser_leaves_the_literal_call_as_text() -> None:
    with simulated("--tool-call-parser", "hermes") as engine:
        message = constrained(engine)
        assert "tool_calls" not in message
        assert message["content"] == NATIVE


def test_a_foreign_parser_still_answers_required() -> None:
    with simulated("--tool-call-parser", "hermes") as engine:
        assert_valid(call_of(engine.chat(tools=[RESTART], tool_choice="required")))


def test_a_tool_result_is_answered_with_text(engine: Engine) -> None:
    messages = [
        {"role": "user", "content": "Restart a."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "restart", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    message = engine.chat(messages=messages, tools=[RESTART]).value["choices"][0]["message"]
    assert "tool result" in message["content"]


def test_images_are_counted_and_cost_tokens(engine: Engine) -> None:
    one = engine.chat(messages=look(PNG)).value
    two = engine.chat(messages=look(PNG, PNG)).value
    assert "saw 2 images" in two["choices"][0]["message"]["content"]
    assert two["usage"]["prompt_tokens"] > one["usage"]["prompt_tokens"]


def test_thinking_comes_back_as_reasoning(engine: Engine) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    message = engine.post("/v1/chat/completions", body).value["choices"][0]["message"]
    assert message["reasoning"]
    assert "<think>" not in message["content"]


def test_max_tokens_cuts_the_answer(engine: Engine) -> None:
    value = engine.chat(max_tokens=3).value
    assert value["usage"]["completion_tokens"] == 3
    assert value["choices"][0]["finish_reason"] == "length"


def test_the_same_request_gets_the_same_answer(engine: Engine) -> None:
    first, second = (engine.chat(tools=[RESTART]) for _ in range(2))
    assert call_of(first) == call_of(second)


def test_stream_ends_with_the_usage_that_was_asked_for(engine: Engine) -> None:
    events = engine.chat(stream=True, stream_options={"include_usage": True}).events()
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["completion_tokens"] == 32


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"model": "gpt-5"}, 404, "NotFoundError", "The model `gpt-5` does not exist"),
        ({"max_tokens": 200_000}, 400, "BadRequestError", "max_model_len=131072"),
    ],
)
def test_errors_have_the_shape_of_vllm(
    engine: Engine, body: dict[str, Any], status: int, kind: str, words: str
) -> None:
    reply = engine.chat(**body)
    error = reply.value["error"]
    assert (reply.status, error["type"], error["code"]) == (status, kind, status)
    assert words in error["message"]


SIZES = [
    *((1, 1), (14, 14), (64, 64), (28, 112), (79, 79), (80, 80), (112, 56), (224, 224)),
    *((640, 480), (1920, 1080), (3840, 2160), (2184, 2184), (2212, 2212), (30, 9000)),
]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_an_image_costs_what_the_gateway_counts(width: int, height: int) -> None:
    assert vision.image_tokens(width, height) == images.tokens(width, height)


def test_more_images_than_the_limit_are_refused() -> None:
    with simulated("--limit-mm-per-prompt", '{"image": 1, "video": 0}') as engine:
        reply = engine.chat(messages=look(PNG, PNG))
        assert reply.status == 400
        assert "At most 1 image(s)" in reply.value["error"]["message"]


@pytest.mark.parametrize("kind", ["image_url", "video_url"])
def test_a_text_model_refuses_media_in_vllm_s_words(kind: str) -> None:
    content = [{"type": kind, kind: {"url": PNG}}, {"type": "text", "text": "what"}]
    with simulated("--served-model-name", "glm-4.6") as engine:
        assert engine.chat().status == 200
        reply = engine.chat(messages=[{"role": "user", "content": content}])
        assert reply.status == 400
        assert reply.value["error"]["message"] == "glm-4.6 is not a multimodal model"


def test_an_unknown_path_is_404(engine: Engine) -> None:
    assert engine.get("/v2/nothing").status == 404


def test_requests_are_counted_by_their_id(engine: Engine) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    engine.post("/v1/chat/completions", body, **{"x-request-id": "once"})
    counted = engine.get("/sim/requests").value["by_request_id"]
    assert counted["once"] == 1


def test_finished_requests_move_the_counters() -> None:
    with simulated() as engine:
        usage = engine.chat(max_tokens=7).value["usage"]
        assert engine.metric("vllm:prompt_tokens_total") == usage["prompt_tokens"]
        assert engine.metric("vllm:generation_tokens_total", model_name="glm-4.6v") == 7
        assert engine.metric("vllm:request_success_total", finished_reason="length") == 1
        assert engine.metric("vllm:time_to_first_token_seconds_count") == 1
        assert engine.metric("vllm:inter_token_latency_seconds_count") == 6


def test_injected_status_lasts_as_often_as_told() -> None:
    with simulated(fail_status=503, fail_count=1) as engine:
        assert [engine.chat().status for _ in range(2)] == [503, 200]


def test_behaviour_changes_while_it_runs() -> None:
    with simulated() as engine:
        engine.post("/sim/behaviour", {"fail_status": 500})
        assert engine.chat().status == 500
        assert engine.post("/sim/behaviour", {"nonsense": 1}).status == 400


def test_an_engine_without_compiler_ends_with_code_0_at_the_first_image() -> None:
    with simulated(die_at_image=True) as engine:
        assert engine.chat().status == 200
        assert engine.chat(messages=look(PNG)).status == 500
        assert engine.get("/health").status == 503
        until(lambda: engine.exits == [0])


@contextlib.contextmanager
def unanswered(engine: Engine) -> Iterator[socket.socket]:
    """A request in flight; leaving the block hangs up."""
    host, port = engine.url.removeprefix("http://").split(":")
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    head = f"{POST}\r\ncontent-length: {len(body)}"
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        until(lambda: running(engine) == 1)
        yield connection


def running(engine: Engine) -> float:
    return engine.metric("vllm:num_requests_running")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def test_a_full_queue_answers_503_and_counts_it() -> None:
    with simulated("--max-num-queued-reqs", "1", first_token_ms=60_000) as engine:
        with unanswered(engine):
            reply = engine.chat()
            assert reply.status == 503
            assert "currently busy" in reply.value["error"]["message"]
        rejected = engine.metric("vllm:admission_rejections_total", reason="max_num_queued_reqs")
        assert rejected == 1


def test_a_client_that_hangs_up_aborts_its_generation() -> None:
    with simulated(first_token_ms=60_000) as engine:
        with unanswered(engine):
            pass
        until(lambda: running(engine) == 0)
        assert engine.metric("vllm:request_success_total", finished_reason="abort") == 1


def test_what_exceeds_max_num_seqs_waits_for_its_turn() -> None:
    with simulated("--max-num-seqs", "1", first_token_ms=60_000) as engine:
        statuses: list[int] = []
        sender = threading.Thread(target=lambda: statuses.append(engine.chat().status))
        with unanswered(engine):
            sender.start()
            until(lambda: engine.metric("vllm:num_requests_waiting") == 1)
            engine.post("/sim/behaviour", {"first_token_ms": 0})
        sender.join(10)
        assert statuses == [200]
