"""What the pods of weights Jobs tell of themselves: asked, kept, and turned into passes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan.observed import JobPhase, Progress, WeightsJob
from glm_operator.runtime.http import NoAnswerError
from glm_operator.runtime.queue import Key
from glm_operator.runtime.weights import (
    POLL_SECONDS,
    TELL_SECONDS,
    WeightsPoller,
    parse_progress,
)

KEY: Key = ("ml", "vision")
STATE = {"stage": "Fetching", "bytes": 10, "totalBytes": 100, "bytesPerSecond": 5, "file": "a"}
TASK = WeightsTask(TaskKind.FETCH, "hf://org/name", "c" * 40, "gpu-1")
JOB = WeightsJob("job", "uid", TASK, 0.0, JobPhase.RUNNING, "pod", ip="10.0.0.7")


@dataclass
class Stage:
    """A poller, pods by the URL of their state, and a clock."""

    states: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    woken: list[Key] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.poller = WeightsPoller(self, self.woken.append, monotonic=lambda: self.now)

    async def get(self, url: str, seconds: float) -> tuple[int, Any]:
        self.asked.append(url)
        found = self.states.get(url)
        if found is None:
            raise NoAnswerError("nobody answers")
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, tuple) else (200, found)

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
        raise AssertionError("nothing is posted to weights pods")

    def says(self, answer: Any, ip: str = "10.0.0.7") -> None:
        """What a pod answers from now on."""
        self.states[f"http://{ip}:8080/state"] = answer

    def poll(self, after: float = POLL_SECONDS) -> int:
        """Make the polls that are due so many seconds later; returns how many."""
        self.now += after

        async def all_due() -> int:
            polls = self.poller.due()
            await asyncio.gather(*polls)
            return len(polls)

        return asyncio.run(all_due())

    def progress(self, job: WeightsJob = JOB) -> Progress | None:
        """What a pass would see of a Job."""
        (found,) = self.poller.completed(KEY, [job])
        return found.progress


@pytest.fixture
def stage() -> Stage:
    found = Stage()
    found.says(STATE)
    found.poller.follow(KEY, [JOB])
    return found


# Answers.


def test_the_agreed_state_is_understood() -> None:
    assert parse_progress(STATE) == Progress("Fetching", 10, 100, 5)


@pytest.mark.parametrize(
    "broken",
    [None, [], "x", {}, STATE | {"bytes": None}, STATE | {"bytes": "many"}]
    + [STATE | {"totalBytes": value} for value in (float("inf"), float("nan"), [])],
)
def test_another_shape_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match="agreed shape"):
        parse_progress(broken)


def test_numbers_are_those_that_a_status_can_hold() -> None:
    found = parse_progress(STATE | {"bytes": -5, "totalBytes": 10**30, "bytesPerSecond": 2.9})
    assert (found.done_bytes, found.total_bytes, found.bytes_per_second) == (0, 2**53, 2)


# Who is asked.


def test_what_a_pod_tells_is_seen_by_the_next_pass(stage: Stage) -> None:
    assert stage.progress() is None
    stage.poll()
    assert stage.progress() == Progress("Fetching", 10, 100, 5)


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, phase=JobPhase.WAITING),
        replace(JOB, phase=JobPhase.DONE),
        replace(JOB, ip=""),
    ],
    ids=["waiting", "done", "without an address"],
)
def test_only_pods_that_run_are_asked(stage: Stage, other: WeightsJob) -> None:
    stage.poller.follow(KEY, [other])
    assert (stage.poll(), stage.progress(other)) == (0, None)


def test_an_object_that_is_gone_is_asked_no_more(stage: Stage) -> None:
    stage.poll()
    stage.poller.forget(KEY)
    assert (stage.poll(), stage.progress()) == (0, None)


def test_what_was_told_stays_as_long_as_the_pod_does(stage: Stage) -> None:
    stage.poll()
    stage.poller.follow(KEY, [JOB])
    assert stage.progress() is not None
    stage.poller.follow(KEY, [replace(JOB, ip="10.0.0.8")])
    assert stage.progress() is None


def test_no_pod_is_asked_twice_at_once_or_too_often(stage: Stage) -> None:
    first = stage.poller.due()
    assert stage.poller.due() == []
    asyncio.run(first[0])
    assert stage.poll(POLL_SECONDS / 2) == 0
    assert stage.poll(POLL_SECONDS / 2) == 1


def test_addresses_of_either_family_are_asked() -> None:
    stage = Stage()
    stage.says(STATE, "[fd00::7]")
    stage.poller.follow(KEY, [replace(JOB, ip="fd00::7")])
    stage.poll()
    assert stage.progress() is not None


@pytest.mark.parametrize(
    "answer",
    [None, (500, "x"), (200, "x"), (200, {}), RuntimeError("a bug")],
    ids=["none", "error", "text", "another shape", "unexpected"],
)
def test_a_pod_that_answers_badly_is_asked_again(stage: Stage, answer: Any) -> None:
    stage.says(answer)
    stage.poll()
    assert (stage.progress(), stage.woken) == (None, [])
    stage.says(STATE)
    assert stage.poll() == 1
    assert stage.progress() is not None


# When it is told.


def changed(**more: Any) -> dict[str, Any]:
    return STATE | more


def test_the_first_answer_and_a_new_stage_are_told_at_once(stage: Stage) -> None:
    stage.poll()
    stage.says(changed(stage="Verifying"))
    stage.poll()
    assert stage.woken == [KEY, KEY]


def test_a_rate_that_becomes_known_is_told_at_once(stage: Stage) -> None:
    stage.says(changed(bytesPerSecond=0))
    stage.poll()
    stage.says(changed(bytesPerSecond=7))
    stage.poll()
    assert stage.woken == [KEY, KEY]


def test_bytes_alone_are_told_now_and_then(stage: Stage) -> None:
    """Each telling writes the object's status."""
    for second in range(60):
        stage.says(changed(bytes=second + 10))
        stage.poll(1.0)
    assert len(stage.woken) == pytest.approx(60 / TELL_SECONDS, abs=1)
    assert stage.progress() is not None


def test_what_stays_as_it_is_wakes_nobody(stage: Stage) -> None:
    for _ in range(60):
        stage.poll(1.0)
    assert stage.woken == [KEY]


# For ever.


def test_polls_go_on_until_they_are_cancelled(stage: Stage) -> None:
    async def watched() -> None:
        woken = asyncio.Event()
        stage.poller = WeightsPoller(stage, lambda key: woken.set(), monotonic=lambda: 1.0)
        stage.poller.follow(KEY, [JOB])
        task = asyncio.create_task(stage.poller.run())
        await woken.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(watched())
    assert stage.progress() is not None


def test_trouble_is_told_at_once_and_so_is_its_end(stage: Stage) -> None:
    stage.poll()
    stage.woken.clear()
    for trouble in ("the hub does not answer.", ""):
        stage.says(STATE | {"trouble": trouble})
        stage.poll()
        told = stage.progress()
        assert told is not None
        assert told.trouble == trouble
    assert stage.woken == [KEY, KEY]
