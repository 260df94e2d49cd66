"""List and watch: continued, bookmarked, listed again, and never a busy loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from glm_operator.kube.errors import ExpiredError, UnavailableError
from glm_operator.kube.resources import POD
from glm_operator.kube.retry import Backoff
from glm_operator.kube.transport import Request
from glm_operator.kube.watch import Change, Gone, Heard, Put, Snapshot, Watch

SHORT = Backoff(base_seconds=0.0001, limit_seconds=0.0002)
Step = Callable[[Request], Any]


def item(name: str, version: str = "1") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ml", "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> dict[str, Any]:
    return {"type": kind, "object": item(name, version)}


def listing(*found: dict[str, Any], version: str = "10", token: str = "") -> dict[str, Any]:
    return {"items": list(found), "metadata": {"resourceVersion": version, "continue": token}}


def trim(raw: Mapping[str, Any]) -> str | None:
    """Keeps names, nothing of what is dull, and cannot read what is broken."""
    name: str = raw["metadata"]["name"]
    if name == "broken":
        raise ValueError("not to be read")
    return None if name == "dull" else name


class Script:
    """A source that plays one answer after another, then stops the watch."""

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.requests: list[Request] = []
        self.changes: list[Change[str]] = []
        self.watch = Watch(
            self,
            POD,
            trim,
            self.changes.append,
            fields="status.phase!=Failed",
            backoff=SHORT,
            random=lambda: 0.0,
        )

    def play(self) -> list[Change[str]]:
        self.watch.run()
        return self.changes

    def _next(self, request: Request) -> Any:
        self.requests.append(request)
        if not self.steps:
            self.watch.stop()
            raise UnavailableError("the script is over")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def send(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = self._next(request)
        return answer

    def lines(self, request: Request, read_seconds: float) -> Iterator[Mapping[str, Any]]:
        for one in self._next(request):
            if isinstance(one, Exception):
                raise one
            yield one

    def queries(self) -> list[dict[str, str]]:
        return [dict(request.query) for request in self.requests]


def test_a_list_becomes_a_snapshot_of_what_is_kept() -> None:
    script = Script(listing(item("a"), item("dull")), [])
    assert script.play()[0] == Snapshot({("ml", "a"): "a"})
    assert script.queries()[0]["fieldSelector"] == "status.phase!=Failed"


def test_pages_are_one_snapshot() -> None:
    script = Script(listing(item("a"), token="next"), listing(item("b")), [])
    assert script.play()[0] == Snapshot({("ml", "a"): "a", ("ml", "b"): "b"})
    assert script.queries()[1]["continue"] == "next"


def test_events_become_changes_in_order() -> None:
    stream = [
        event("ADDED", "a", "11"),
        event("MODIFIED", "a", "12"),
        event("DELETED", "a", "13"),
        event("MODIFIED", "dull", "14"),
        event("BOOKMARK", "", "15"),
    ]
    script = Script(listing(), stream)
    assert script.play()[1:] == [
        Put(("ml", "a"), "a"),
        Put(("ml", "a"), "a"),
        Gone(("ml", "a")),
        Gone(("ml", "dull")),
        Heard(),
    ]


def test_a_watch_begins_where_the_list_ended_and_continues_where_it_broke() -> None:
    script = Script(listing(version="10"), [event("BOOKMARK", "", "15")], [])
    script.play()
    assert [query.get("resourceVersion") for query in script.queries()[1:3]] == ["10", "15"]
    assert script.queries()[1]["allowWatchBookmarks"] == "true"


@pytest.mark.parametrize(
    "lost",
    [ExpiredError("too old"), [{"type": "ERROR", "object": {"code": 410, "message": "too old"}}]],
    ids=["at the start", "in the stream"],
)
def test_a_lost_place_is_listed_again(lost: Any) -> None:
    script = Script(listing(item("a")), lost, listing(item("b")), [])
    snapshots = [change for change in script.play() if isinstance(change, Snapshot)]
    assert [set(one.items) for one in snapshots] == [{("ml", "a")}, {("ml", "b")}]


def test_a_broken_stream_and_a_failing_server_are_survived() -> None:
    script = Script(
        UnavailableError("503"),
        listing(item("a")),
        [event("ADDED", "b", "11"), UnavailableError("broke off")],
        listing(item("a"), item("b")),
        [],
    )
    changes = script.play()
    assert Put(("ml", "b"), "b") in changes
    assert changes[-1] == Snapshot({("ml", "a"): "a", ("ml", "b"): "b"})


def test_streams_that_end_at_once_are_not_opened_in_a_busy_loop() -> None:
    waits: list[float] = []
    script = Script(listing(), [], [], [])
    script.watch._stop.wait = lambda seconds: waits.append(seconds) or False  # type: ignore[method-assign,func-returns-value]
    script.play()
    assert len(waits) >= 3
    assert all(seconds > 0 for seconds in waits)


def test_nothing_is_delivered_after_stop() -> None:
    script = Script(listing(item("a")))
    script.watch.stop()
    assert script.play() == []


def test_an_object_that_cannot_be_read_is_left_out_of_the_list_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = Script(listing(item("broken"), item("a")), [])
    assert script.play()[0] == Snapshot({("ml", "a"): "a"})
    assert "ml/broken cannot be read" in caplog.text


def test_an_object_that_can_no_longer_be_read_changes_nothing_and_ends_nothing() -> None:
    stream = [event("MODIFIED", "broken", "11"), event("ADDED", "a", "12")]
    script = Script(listing(), stream)
    assert script.play()[1:] == [Heard(), Put(("ml", "a"), "a")]
    assert [query.get("resourceVersion") for query in script.queries()[1:3]] == ["10", "12"]


@pytest.mark.parametrize(
    "unexpected",
    [[{"type": "ADDED", "object": {}}], RuntimeError("a bug")],
    ids=["an event without a name", "a bug"],
)
def test_what_nobody_expected_is_logged_and_listed_again(
    unexpected: Any, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    script = Script(listing(item("a")), unexpected, listing(item("b")), [])
    script.watch._stop.wait = lambda seconds: waits.append(seconds) or False  # type: ignore[method-assign,func-returns-value]
    assert script.play()[-1] == Snapshot({("ml", "b"): "b"})
    assert "failed unexpectedly" in caplog.text
    assert waits[0] > 0
