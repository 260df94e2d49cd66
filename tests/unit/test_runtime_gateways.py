"""What gateways report: read, aged, and turned into wake-ups."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glm_operator.kube.read import GatewayPod
from glm_operator.plan.observed import GatewayReport, GatewayTier
from glm_operator.runtime.gateways import GatewayPoller, StateError, is_urgent, parse_state
from glm_operator.runtime.http import NoAnswerError
from glm_operator.runtime.metrics import Metrics

STATE = json.loads((Path(__file__).parents[1] / "data" / "gateway-state.json").read_text())
KEY = ("ml", "vision")


def test_the_agreed_state_is_understood() -> None:
    report = parse_state(STATE)
    assert (report.pod, report.generation) == ("vision-gateway-7c9f-abcde", 3)
    assert report.tiers["flash"] == GatewayTier(
        arrivals=310,
        held=3,
        in_flight=1,
        replicas={"vision-flash-0b7d2e44-1": 1},
        routable=frozenset(),
    )
    assert report.tiers["flagship"].routable == {"vision-flagship-5f2a9c1e-0"}


def test_who_was_told_to_come_again_is_wanted_like_who_is_held() -> None:
    flash = STATE["tiers"]["flash"] | {"expected": 2}
    told = STATE | {"tiers": {"flash": flash}}
    assert parse_state(told).tiers["flash"].held == flash["held"] + 2


@pytest.mark.parametrize(
    "broken",
    [
        {},
        [],
        "x",
        {**STATE, "tiers": []},
        {**STATE, "generation": "x"},
        {**STATE, "tiers": {"flash": {}}},
        {**STATE, "generation": float("inf")},
        {**STATE, "generation": float("nan")},
    ],
)
def test_another_shape_is_refused(broken: Any) -> None:
    with pytest.raises(StateError, match="not of the agreed shape"):
        parse_state(broken)


def report(generation: int = 1, **tier: Any) -> GatewayReport:
    return GatewayReport("g", generation, 0.0, tiers={"flash": GatewayTier(**tier)})


DRAINED = frozenset({"a"})


@pytest.mark.parametrize(
    ("before", "after", "asleep", "draining", "urgent"),
    [
        (None, report(held=1), {"flash"}, frozenset(), True),
        (report(), report(held=1), {"flash"}, frozenset(), True),
        (report(held=1), report(held=2), {"flash"}, frozenset(), False),
        (report(), report(held=1), set(), frozenset(), False),
        (report(replicas={"a": 2}), report(replicas={"a": 0}), set(), DRAINED, True),
        (report(replicas={"a": 2}), report(), set(), DRAINED, True),
        (report(replicas={"a": 2}), report(replicas={"a": 1}), set(), DRAINED, False),
        (report(routable=DRAINED), report(replicas={"a": 0}), set(), DRAINED, True),
        (report(replicas={"a": 2}), report(replicas={"a": 0}), set(), frozenset(), False),
        (report(1), report(2), set(), frozenset(), True),
        (None, report(), set(), frozenset(), True),
        (report(), report(), {"flash"}, DRAINED, False),
    ],
    ids=[
        "first report with held work",
        "work begins to be held",
        "more work is held",
        "held, but the tier is awake",
        "a draining replica is free",
        "a draining replica has left the gateway",
        "a draining replica is less busy",
        "a draining replica is no longer routed to",
        "a replica that does not drain is free",
        "another configuration",
        "heard for the first time",
        "nothing changed",
    ],
)
def test_only_what_a_pass_would_act_on_is_urgent(
    before: GatewayReport | None,
    after: GatewayReport,
    asleep: set[str],
    draining: frozenset[str],
    urgent: bool,
) -> None:
    assert is_urgent(before, after, asleep, draining) is urgent


@dataclass
class FakeHttp:
    """Answers by address; a missing one does not answer, an exception is raised.

    What hangs does so until `release` is set.
    """

    answers: dict[str, tuple[int, Any] | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hanging: set[str] = field(default_factory=set)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def get(self, url: str, seconds: float) -> tuple[int, Any]:
        self.asked.append(url)
        if url in self.hanging:
            await self.release.wait()
        if url not in self.answers:
            raise NoAnswerError("connection refused")
        answer = self.answers[url]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
        raise AssertionError("gateways are only read")


@dataclass
class Poll:
    """A poller with a clock that the test moves."""

    http: FakeHttp = field(default_factory=FakeHttp)
    woken: list[tuple[str, str]] = field(default_factory=list)
    now: float = 50.0
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.poller = GatewayPoller(
            self.http,
            self.woken.append,
            self.metrics,
            monotonic=lambda: self.now,
        )

    def once(self) -> None:
        """A second later every gateway that is due is asked."""
        self.now += 1

        async def main() -> None:
            await asyncio.gather(*self.poller.due())

        asyncio.run(main())

    def heard(self) -> list[str]:
        return [report.pod for report in self.poller.reports(KEY) if report.heard]

    def failed(self) -> float | None:
        return self.metrics.registry.get_sample_value(
            "glm_operator_gateway_polls_total", {"result": "failed"}
        )


URL = "http://10.0.0.1:9090/state"
POD = GatewayPod("gw-1", "10.0.0.1")


def test_reports_carry_their_age_and_the_name_of_their_pod() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD])
    poll.once()
    poll.now += 2.5
    (found,) = poll.poller.reports(KEY)
    assert (found.pod, found.age_seconds) == ("gw-1", 2.5)


def test_held_work_for_a_sleeping_tier_wakes_the_object() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD], asleep=["flash"])
    poll.once()
    poll.once()
    assert poll.woken == [KEY]


@pytest.mark.parametrize("answer", [None, (500, "x"), (200, {})], ids=["silent", "500", "odd"])
def test_a_gateway_that_does_not_answer_keeps_its_last_report_and_is_counted(answer: Any) -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD])
    poll.once()
    del poll.http.answers[URL]
    if answer is not None:
        poll.http.answers[URL] = answer
    poll.now += 3
    poll.once()
    (found,) = poll.poller.reports(KEY)
    assert found.age_seconds == 4
    assert poll.failed() == 1


def test_a_gateway_silent_for_a_minute_is_reported_no_more() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD])
    poll.once()
    poll.now += 61
    assert poll.poller.reports(KEY) == ()


def test_a_gateway_that_was_not_heard_yet_is_not_the_same_as_none() -> None:
    poll = Poll()
    poll.poller.follow(KEY, [POD])
    poll.once()
    (found,) = poll.poller.reports(KEY)
    assert (found.pod, found.heard, found.age_seconds) == ("gw-1", False, 1)
    poll.now += 60
    assert poll.poller.reports(KEY) == ()


def test_gateways_that_left_are_not_asked_and_a_new_address_starts_anew() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD, GatewayPod("gw-2", "10.0.0.2")])
    poll.once()
    poll.poller.follow(KEY, [GatewayPod("gw-1", "10.0.0.9")])
    assert poll.heard() == []
    poll.http.asked.clear()
    poll.once()
    assert poll.http.asked == ["http://10.0.0.9:9090/state"]
    poll.poller.forget(KEY)
    poll.http.asked.clear()
    poll.once()
    assert poll.http.asked == []


def test_a_poll_that_fails_in_a_way_nobody_expected_is_counted_and_ends_only_itself() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.http.answers["http://10.0.0.2:9090/state"] = RuntimeError("a bug")
    poll.poller.follow(KEY, [GatewayPod("gw-0", "10.0.0.2"), POD])
    poll.once()
    assert poll.heard() == ["gw-1"]
    assert poll.failed() == 1


def test_a_gateway_that_leaves_before_its_poll_begins_ends_no_other() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    poll.poller.follow(KEY, [POD, GatewayPod("gw-2", "10.0.0.2")])

    async def main() -> None:
        polls = poll.poller.due()
        poll.poller.follow(KEY, [POD])
        await asyncio.gather(*polls)

    asyncio.run(main())
    assert [report.pod for report in poll.poller.reports(KEY)] == ["gw-1"]


def test_a_gateway_that_takes_its_time_delays_no_other_and_is_asked_once_at_a_time() -> None:
    poll = Poll()
    poll.http.answers[URL] = (200, STATE)
    slow = "http://10.0.0.2:9090/state"
    poll.http.hanging.add(slow)
    poll.poller.follow(KEY, [POD, GatewayPod("gw-2", "10.0.0.2")])

    async def main() -> None:
        async with asyncio.TaskGroup() as polls:
            for _ in range(3):
                poll.now += 1
                begun = [polls.create_task(one) for one in poll.poller.due()]
                await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
                assert poll.heard() == ["gw-1"]
                assert poll.poller.reports(KEY)[0].age_seconds == 0
            poll.http.release.set()

    asyncio.run(main())
    assert poll.http.asked.count(URL) == 3
    assert poll.http.asked.count(slow) == 1


def test_a_silent_gateway_is_asked_less_often_until_it_answers() -> None:
    poll = Poll()
    poll.poller.follow(KEY, [POD])
    asked = []
    for _ in range(13):
        poll.once()
        asked.append(len(poll.http.asked))
    assert asked == [1, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5]
    poll.http.answers[URL] = (200, STATE)
    for _ in range(7):
        poll.once()
    assert len(poll.http.asked) == asked[-1] + 3


def test_an_address_of_version_6_is_bracketed() -> None:
    poll = Poll()
    poll.poller.follow(KEY, [GatewayPod("gw-1", "fd00::1")])
    poll.once()
    assert poll.http.asked == ["http://[fd00::1]:9090/state"]
