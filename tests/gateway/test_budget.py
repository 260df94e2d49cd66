"""What a request and a chunk may cost, in function calls: the same on every machine.

`make bench` measures the time; these tests notice beforehand when something is done once more
for each chunk, or when a request does much more than it did. A budget may be raised for a good
reason, and then with a look at docs/benchmarks.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway_wires import Wire, calls_of, receive
from glm_serving.gateway.accesslog import AccessLog
from glm_serving.gateway.client import ClientConnection
from glm_serving.gateway.config import parse
from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.upstream import UpstreamConnection

CALLS_PER_READ = 26
"""For what one read from a replica brings, be it one chunk or a hundred."""
CALLS_PER_REQUEST = 550

CONFIG = b"""{"version": 1, "tiers": {
  "flagship": {"model": "glm-4.6v", "contextTokens": 131072,
               "endpoints": [{"name": "a", "url": "http://127.0.0.1:1"}]},
  "flash": {"model": "glm-4.6v-flash", "contextTokens": 131072,
            "endpoints": [{"name": "b", "url": "http://127.0.0.1:2"}]}}}"""
BODY = b'{"model": "glm-4.6v", "messages": [{"role": "user", "content": "Hello"}], "stream": true}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = b'data: {"choices": [{"index": 0, "delta": {"content": "word"}}]}\n\n'
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
LAST = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class _Stage:
    """A gateway, one client and one kept connection to a replica, all without sockets."""

    def __init__(self) -> None:
        self._gateway = Gateway(parse(CONFIG), access_log=AccessLog(lambda _: None))
        replica = self._gateway.pools["flagship"].tier.replicas["a"]
        self._upstream = UpstreamConnection(replica)
        self._upstream.connection_made(Wire())
        replica.idle.append(self._upstream)
        self.client, self._wire = ClientConnection(self._gateway), Wire()
        self.client.connection_made(self._wire)

    def ask(self) -> None:
        receive(self.client, REQUEST)

    def answer(self, data: bytes) -> None:
        self._upstream.data_received(data)

    def whole_request(self) -> None:
        self.ask()
        self.answer(HEAD + CHUNK)
        self.answer(CHUNK + LAST)

    def take(self) -> bytes:
        """What the client got since."""
        got, self._wire.writes = b"".join(self._wire.writes), []
        return got


def _on_stage(measured: Callable[[_Stage], int]) -> int:
    async def scenario() -> int:
        stage = _Stage()
        stage.whole_request()
        return measured(stage)

    return asyncio.run(scenario())


@pytest.mark.parametrize("chunks", [1, 100])
def test_a_read_of_a_stream_stays_in_its_budget(chunks: int) -> None:
    def measured(stage: _Stage) -> int:
        stage.ask()
        stage.answer(HEAD + CHUNK)
        stage.take()
        calls = calls_of(lambda: stage.answer(CHUNK * chunks))
        assert stage.take().count(EVENT) == chunks
        return calls

    assert _on_stage(measured) <= CALLS_PER_READ


def test_a_request_stays_in_its_budget() -> None:
    def measured(stage: _Stage) -> int:
        stage.take()
        calls = calls_of(stage.whole_request)
        assert stage.take().endswith(LAST.partition(b"\r\n")[2])
        return calls

    assert _on_stage(measured) <= CALLS_PER_REQUEST
