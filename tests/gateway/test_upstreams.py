"""Replicas and tiers: who is usable, who is next, how long a failure counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from glm_serving.gateway.breaker import BreakerState
from glm_serving.gateway.config import Address
from glm_serving.gateway.limits import RetryBudget, Timings
from glm_serving.gateway.upstreams import Tier

HERE = Address("10.0.0.1", 8000)


def tier(*names: str) -> Tier:
    one = Tier("flash", Timings(), lambda: 0.5)
    one.set_endpoints({name: HERE for name in names})
    return one


def test_a_failed_replica_rests_twice_as_long_each_time() -> None:
    replica = tier("a").replicas["a"]
    now, pauses = 0.0, []
    for _ in range(7):
        pauses.append(replica.failed(now))
        assert not replica.usable(now)
        now = replica.breaker.until
        assert replica.usable(now)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_many_failures_of_one_cause_count_once() -> None:
    replica = tier("a").replicas["a"]
    assert {replica.failed(10.0) for _ in range(100)} == {0.25}
    assert replica.usable(10.25)


def test_after_a_rest_one_request_goes_first() -> None:
    replica = tier("a").replicas["a"]
    replica.failed(0.0)
    replica.begin()
    assert not replica.usable(1.0)
    replica.breaker.reached()
    assert replica.usable(1.0)


def test_a_replica_that_hung_has_to_answer_before_others_follow() -> None:
    replica = tier("a").replicas["a"]
    replica.failed(0.0, hung=True)
    assert replica.begin()
    replica.breaker.reached()
    assert not replica.usable(1.0)
    replica.breaker.answered()
    assert replica.usable(1.0)


def test_a_request_that_ends_without_finding_out_lets_another_find_out() -> None:
    replica = tier("a").replicas["a"]
    replica.failed(0.0, hung=True)
    assert replica.begin()
    replica.breaker.probe_over()
    assert replica.usable(1.0)
    assert replica.begin()


def test_the_state_of_a_breaker_is_told() -> None:
    breaker = tier("a").replicas["a"].breaker
    assert breaker.state(0.0) is BreakerState.CLOSED
    breaker.failed(0.0)
    assert breaker.state(0.1) is BreakerState.OPEN
    assert breaker.state(1.0) is BreakerState.HALF_OPEN
    breaker.answered()
    assert breaker.state(0.1) is BreakerState.CLOSED


def test_an_answer_ends_the_rest() -> None:
    replica = tier("a").replicas["a"]
    assert not replica.breaker.answered()
    replica.failed(0.0)
    assert replica.breaker.answered()
    assert replica.usable(0.0)


def test_a_resting_replica_is_passed_over() -> None:
    one = tier("a", "b")
    one.replicas["a"].failed(0.0)
    assert {one.choose(0.1).name for _ in range(4)} == {"b"}  # type: ignore[union-attr]


def test_equals_take_turns() -> None:
    one = tier("a", "b", "c")
    assert sorted(one.choose(0.0).name for _ in range(3)) == ["a", "b", "c"]  # type: ignore[union-attr]


def test_a_replica_that_was_not_tried_is_preferred() -> None:
    one = tier("a", "b")
    one.replicas["b"].begin()
    assert one.choose(0.0, frozenset({"a"})) is one.replicas["b"]
    assert one.choose(0.0, frozenset({"a", "b"})) is one.replicas["a"]


def test_a_replica_that_returns_is_routable_again() -> None:
    one = tier("a")
    replica = one.replicas["a"]
    replica.begin()
    one.set_endpoints({})
    assert one.choose(0.0) is None
    one.set_endpoints({"a": HERE})
    assert one.choose(0.0) is replica
    assert replica.in_flight == 1


@given(st.lists(st.sampled_from(["begin", "end", "leave", "join", "fail"]), max_size=40))
def test_counts_survive_any_order_of_events(steps: list[str]) -> None:
    one = tier("a")
    running = []
    for step in steps:
        replica = one.replicas.get("a")
        if step == "begin" and replica:
            replica.begin()
            running.append(replica)
        elif step == "end" and running:
            done = running.pop()
            done.end()
            one.forget(done)
        elif step == "fail" and replica:
            replica.failed(0.0)
        elif step in {"leave", "join"}:
            one.set_endpoints({"a": HERE} if step == "join" else {})
        assert one.in_flight == len(running)
        assert ("a" in one.replicas) or not running


def test_the_address_of_an_ipv6_replica_is_bracketed() -> None:
    assert str(Address("fd00::1", 8000)) == "[fd00::1]:8000"


def test_the_retry_budget_is_a_share_of_the_traffic() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass
    for _ in range(100):
        budget.earn()
    assert sum(budget.spend() for _ in range(100)) in {19, 20}
