"""The real vLLM direct and through the gateway: the same bytes in every API, and both packages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

import conformance
from conformance import SAID, png
from gateway_fakes import Answer, Client, config, running
from gateway_fakes import run as run_briefly
from glm_dev.engine.serve import Served, example_spec, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ANSWER_SECONDS = 120
MESSAGES, RESPONSES = "/v1/messages", "/v1/responses"
COUNT_TOKENS = "/v1/messages/count_tokens"
PICTURE = png()
STEADY = {"seed": 1, "temperature": 0, "chat_template_kwargs": {"enable_thinking": False}}
SCHEMA = conformance.tool("a", "b")["function"]["parameters"]


def message(**fields: Any) -> dict[str, Any]:
    """An Anthropic request."""
    return {"messages": SAID, "max_tokens": 8, "temperature": 0} | fields


def response(**fields: Any) -> dict[str, Any]:
    """A request for a response."""
    return {"input": "hi there", "max_output_tokens": 8, **STEADY} | fields


BLOCK = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE.split(",")[1]},
}
LOOK = [{"role": "user", "content": [{"type": "text", "text": "what"}, BLOCK]}]
USED = {"type": "tool_use", "id": "x", "name": "restart", "input": {"server": "a"}}
RESULT = {"type": "tool_result", "tool_use_id": "x", "content": [BLOCK]}
LOOP = [
    *LOOK,
    {"role": "assistant", "content": [USED]},
    {"role": "user", "content": [RESULT]},
]
TOOL = {
    "tools": [{"name": "restart", "strict": True, "input_schema": SCHEMA}],
    "tool_choice": {"type": "any"},
    "max_tokens": 256,
}
SEEN = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "what"},
            {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        ],
    }
]
CALLED = {"type": "function_call", "call_id": "x", "name": "restart", "arguments": '{"server":"a"}'}
DONE = {"type": "function_call_output", "call_id": "x", "output": "restarted"}
FUNCTION = {
    "tools": [{"type": "function", "name": "restart", "strict": True, "parameters": SCHEMA}],
    "tool_choice": "required",
    "max_output_tokens": 256,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"chat: {name}": case for name, case in conformance.ANSWERS.items()},
    "chat: an error": conformance.ERRORS["required without tools"],
    "message": (MESSAGES, message()),
    "message: stream": (MESSAGES, message(stream=True)),
    "message: image": (MESSAGES, message(messages=LOOK)),
    "message: tool": (MESSAGES, message(messages=LOOK, **TOOL)),
    "message: streamed tool": (MESSAGES, message(messages=LOOK, stream=True, **TOOL)),
    "message: result with an image": (MESSAGES, message(messages=LOOP, stream=True)),
    "message: too long an answer": (MESSAGES, message(max_tokens=9000)),
    "message: without a length": (MESSAGES, {"messages": SAID}),
    "count": (COUNT_TOKENS, {"messages": SAID}),
    "count: image": (COUNT_TOKENS, {"messages": LOOK}),
    "response": (RESPONSES, response()),
    "response: stream": (RESPONSES, response(stream=True)),
    "response: image": (RESPONSES, response(input=SEEN)),
    "response: tool": (RESPONSES, response(input=SEEN, **FUNCTION)),
    "response: streamed tool": (RESPONSES, response(input=SEEN, stream=True, **FUNCTION)),
    "response: tool result": (RESPONSES, response(input=[*SEEN, CALLED, DONE], stream=True)),
    "response: an error": (RESPONSES, response(max_output_tokens=9000)),
}


@pytest.fixture(scope="module", params=["flash", pytest.param("flagship", marks=pytest.mark.full)])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    log = tmp_path_factory.mktemp(request.param) / "engine.log"
    with serving(example_spec(request.param), log) as engine:
        yield engine


class Tee:
    """Stands before an engine and keeps the bytes that it answers with."""

    def __init__(self, url: str) -> None:
        self._engine = urlsplit(url)
        self._answers = asyncio.StreamReader()
        self._passing: set[asyncio.Task[None]] = set()
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._engine.hostname, self._engine.port
        answers, asks = await asyncio.open_connection(host, port)
        for passing in (self._pass(reader, asks), self._pass(answers, writer, keep=True)):
            self._passing.add(asyncio.create_task(passing))

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, keep: bool = False
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(2**16):
                if keep:
                    self._answers.feed_data(data)
                target.write(data)
        target.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Tee]:
        """Listen, and wait at the end until every connection that was opened is closed."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await asyncio.gather(*self._passing)

    async def answer(self) -> Answer:
        """What the engine answered."""
        return await Client(self._answers, None).answer()  # type: ignore[arg-type]


def steady(answer: Answer) -> Any:
    """An answer without what differs from one run to the next: an engine of two ranks may even
    write another text, in other pieces.
    """
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return answer.status, conformance.shape(json.loads(answer.body))
    return answer.status, set(re.findall(rb'"type":"([a-z_.]+)"', answer.body))


async def ask(port: int, path: str, body: bytes) -> Answer:
    """One request on a connection of its own."""
    client = await Client.open(port)
    await client.request(body, path, x_request_id="same")
    answer = await client.answer()
    client.abort()
    return answer


@pytest.mark.parametrize("case", CASES)
def test_the_client_gets_the_engines_bytes(served: Served, case: str) -> None:
    path, fields = CASES[case]
    body = json.dumps({"model": "glm-4.6v-flash", **fields}).encode()

    async def scenario() -> None:
        direct = await ask(int(served.url.rpartition(":")[2]), path, body)
        async with Tee(served.url).running() as tee, running(flash=[tee.url]) as gateway:
            routed = await ask(gateway.port, path, body)
            sent = await tee.answer()
            assert (routed.status, routed.body) == (sent.status, sent.body)
            assert routed.complete
            assert steady(routed) == steady(direct)
            assert routed.headers["content-type"] == direct.headers["content-type"]
            line = gateway.log()[-1]
            assert line["status"] == direct.status
            if direct.status == 200 and path != COUNT_TOKENS and "stream_options" not in fields:
                assert line["completionTokens"] > 0

    run_briefly(scenario(), ANSWER_SECONDS)


def test_the_anthropic_package_works_unchanged(served: Served) -> None:
    async def scenario() -> None:
        async with running(config(["flash"]), flash=[served.url]) as gateway:
            url = f"http://127.0.0.1:{gateway.port}"
            async with anthropic.AsyncAnthropic(base_url=url, api_key="k", timeout=60) as client:
                asked: dict[str, Any] = {"model": "glm", "messages": LOOK, **TOOL}
                asked["extra_body"] = {"chat_template_kwargs": {"enable_thinking": False}}
                whole = await client.messages.create(**asked)
                assert "tool_use" in {block.type for block in whole.content}
                async with client.messages.stream(**asked) as stream:
                    streamed = await stream.get_final_message()
                assert streamed.usage.output_tokens > 0
                counted = await client.messages.count_tokens(model="glm", messages=LOOK)  # type: ignore[arg-type]
                assert counted.input_tokens > 10
                with pytest.raises(anthropic.BadRequestError):
                    await client.messages.create(**asked | {"max_tokens": 9000})

    run_briefly(scenario(), ANSWER_SECONDS)


def test_the_openai_package_works_unchanged(served: Served) -> None:
    async def scenario() -> None:
        async with running(config(["flash"]), flash=[served.url]) as gateway:
            url = f"http://127.0.0.1:{gateway.port}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="k", timeout=60) as client:
                asked: dict[str, Any] = {
                    "model": "glm",
                    "input": SEEN,
                    **FUNCTION,
                    "extra_body": STEADY,
                }
                whole = await client.responses.create(**asked)
                assert whole.output[-1].type == "function_call"
                async with client.responses.stream(**asked) as stream:
                    streamed = await stream.get_final_response()
                assert streamed.usage is not None
                assert streamed.usage.output_tokens > 0
                with pytest.raises(openai.BadRequestError, match="max_output_tokens"):
                    await client.responses.create(**asked | {"max_output_tokens": 9000})

    run_briefly(scenario(), ANSWER_SECONDS)
