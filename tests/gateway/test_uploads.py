"""One body while it arrives: what it reserves, how long it may take, what it costs."""

from __future__ import annotations

import tracemalloc

import pytest

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.http import RequestParser
from glm_serving.gateway.limits import MAX_FRAMING_BYTES, ByteBudget, Timings
from glm_serving.gateway.uploads import Upload

LONG = "content-length: 1000000"
CHUNKED = "transfer-encoding: chunked"


class Bodies:
    """A budget, and a clock that a test moves."""

    def __init__(self, limit: int = 10**8) -> None:
        self.timings = Timings(body_grace=30, upload_bytes_per_second=1000)
        self.budget = ByteBudget(limit)
        self.has_room = self.budget.holds
        self.take_bytes = self.budget.take
        self.give_bytes = self.budget.give
        self.now = 100.0

    def upload(self, framing: str, allowed: int = 10**7) -> Upload:
        parser = RequestParser()
        head = parser.head(f"POST /v1/completions HTTP/1.1\r\n{framing}\r\n\r\n".encode())
        return Upload(self, lambda: self.now, head, parser, allowed)


def test_what_arrived_is_reserved_and_returned() -> None:
    bodies = Bodies()
    upload = bodies.upload(LONG)
    assert bodies.budget.used == 0
    upload.add(b"x" * 1000)
    assert bodies.budget.used == 1000
    upload.drop()
    assert bodies.budget.used == 0


def test_bytes_put_the_end_off_by_their_time_at_the_minimum_rate() -> None:
    bodies = Bodies()
    upload = bodies.upload(LONG)
    assert upload.deadline == 130
    bodies.now = 120
    upload.add(b"x" * 5000)
    assert upload.deadline == 135


@pytest.mark.parametrize("framing", [LONG, CHUNKED])
def test_a_fast_beginning_earns_no_right_to_stand_still(framing: str) -> None:
    bodies = Bodies()
    upload = bodies.upload(framing)
    upload.add(b"x" * 900_000 if framing is LONG else b"dbba0\r\n" + b"x" * 900_000)
    assert upload.deadline == bodies.now + 30


def test_framing_without_content_does_not_put_the_end_off() -> None:
    bodies = Bodies()
    upload = bodies.upload(CHUNKED)
    bodies.now = 120
    upload.add(b"5;extension=")
    upload.add(b"y" * 5000)
    assert upload.deadline == 130


@pytest.mark.parametrize("beginning", [b"0\r\nx-trailer: ", b"5;extension="])
def test_framing_without_content_is_bounded(beginning: bytes) -> None:
    upload = Bodies().upload(CHUNKED)
    upload.add(beginning)
    upload.add(b"y" * (MAX_FRAMING_BYTES - 100))
    with pytest.raises(Refusal, match="no content"):
        upload.add(b"y" * 100)


def test_content_gives_leave_for_more_framing() -> None:
    upload = Bodies().upload(CHUNKED)
    for _ in range(2 * MAX_FRAMING_BYTES // 5):
        upload.add(b"2\r\n{}\r\n")
    upload.add(b"0\r\n\r\n")
    assert upload.complete


def test_a_body_in_tiny_chunks_needs_no_more_memory_than_is_counted() -> None:
    bodies = Bodies()
    upload = bodies.upload(CHUNKED)
    tracemalloc.start()
    try:
        for _ in range(500):
            upload.add(b"2\r\nxy\r\n" * 1000)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bodies.budget.used == 1_000_000
    assert held < 1.5 * bodies.budget.used


@pytest.mark.parametrize("framing", [LONG, CHUNKED])
def test_a_body_that_finds_no_memory_is_refused_midway(framing: str) -> None:
    bodies = Bodies(limit=1_000_100)
    upload = bodies.upload(framing)
    bodies.take_bytes(1_000_000)
    with pytest.raises(Refusal) as caught:
        upload.add(b"x" * 200 if framing is LONG else b"c8\r\n" + b"x" * 200)
    assert caught.value.reason.name == "TooManyBytesInFlight"
    assert bodies.budget.used == 1_000_000


def test_a_body_of_known_length_is_read_to_its_end_and_not_beyond() -> None:
    upload = Bodies().upload("content-length: 5")
    assert upload.room == 5
    upload.add(b"abc")
    assert (upload.room, upload.complete) == (2, False)
    upload.add(b"de")
    assert (upload.room, upload.complete) == (0, True)
