"""A Prometheus on a busy machine, which does not answer every time."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import prometheus
from prometheus import NoAnswerError, Prometheus, PrometheusError

SAMPLE = {"metric": {"job": "gateway"}, "value": [0, "1"]}


class Late(BaseHTTPRequestHandler):
    """Leaves as many requests without an answer as its server says, by silence or hanging up."""

    server: LateServer

    def do_GET(self) -> None:
        self.server.asked += 1
        if self.server.asked <= self.server.unanswered:
            self.server.released.wait(10 if self.server.silent else 0)
            return
        text = json.dumps({"data": {"resultType": "vector", "result": [SAMPLE]}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *words: object) -> None:
        """Nothing: the test says what counts."""


class LateServer(HTTPServer):
    asked = 0
    unanswered = 0
    silent = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Late)
        self.released = threading.Event()


@pytest.fixture
def server() -> Iterator[LateServer]:
    with LateServer() as late:
        thread = threading.Thread(target=late.serve_forever, args=(0.05,))
        thread.start()
        yield late
        late.released.set()
        late.shutdown()
        thread.join(5)


def asked(server: LateServer) -> Prometheus:
    return Prometheus(f"http://127.0.0.1:{server.server_port}")


def test_a_connection_that_ends_without_an_answer_is_no_end_of_the_wait(server: LateServer) -> None:
    server.unanswered = 1
    (sample,) = asked(server).wait_for("up == 1", 10)
    assert sample.value == 1.0
    assert server.asked == 2


def test_an_answer_that_is_late_counts_as_none(
    server: LateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "ANSWER_SECONDS", 0.05)
    server.unanswered, server.silent = 1, True
    with pytest.raises(NoAnswerError, match="no answer from http"):
        asked(server).query("up")


def test_a_prometheus_that_is_gone_ends_the_wait_with_its_expression() -> None:
    with pytest.raises(PrometheusError, match="up == 1 stayed empty for 0 s"):
        Prometheus("http://127.0.0.1:1").wait_for("up == 1", 0)
