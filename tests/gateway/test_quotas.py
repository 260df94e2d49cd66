"""Limits of a key: what fits into a minute, shared by gateways, charged and settled."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_serving.gateway.errors import Refusal
from glm_serving.gateway.facts import Facts
from glm_serving.gateway.keys import Key
from glm_serving.gateway.quotas import MINUTE, UNKNOWN_OUTPUT_TOKENS, Quota, Window, cost

KEY = Key(name="alice")
SMALL = Facts("glm", prompt_tokens=10, max_tokens=10)


def refusal(quota: Quota, key: Key, facts: Facts = SMALL, gateways: int = 1) -> Refusal:
    """Why a request at the time 0 is not let in."""
    with pytest.raises(Refusal) as caught:
        quota.charge(key, facts, gateways, 0.0)
    return caught.value


@given(
    st.lists(st.floats(0, 600, allow_nan=False), max_size=200).map(sorted),
    st.integers(1, 20),
)
def test_no_minute_has_more_than_the_limit(times: list[float], limit: int) -> None:
    window, let_in = Window(), []
    for now in times:
        if window.wait_seconds(1, limit, now) == 0:
            window.charge(1, limit, now)
            let_in.append(now)
    for start in let_in:
        assert sum(start <= at < start + MINUTE for at in let_in) <= limit


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 200)), max_size=60),
    st.integers(50, 150),
)
def test_after_the_time_that_is_told_there_is_room_and_before_it_is_none(
    steps: list[tuple[float, int]], share: int
) -> None:
    window, now = Window(), 0.0
    for pause, amount in steps:
        now += pause
        wait = window.wait_seconds(amount, share, now)
        if wait:
            assert window.wait_seconds(amount, share, now + wait * 0.99) > 0
            now += wait
            assert window.wait_seconds(amount, share, now) == pytest.approx(0, abs=1e-6)
        window.charge(amount, share, now)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=40))
def test_whatever_is_settled_an_hour_later_nothing_counts(charges: list[tuple[int, int]]) -> None:
    window, now = Window(), 0.0
    for charged, actual in charges:
        slot = window.charge(charged, 100, now)
        window.correct(slot, charged, actual, 100, now + 1)
        assert window.used(now + 1) >= 0
        now += 3
    assert window.used(now + 3600) == 0
    assert window.wait_seconds(100, 100, now + 3600) == 0


@pytest.mark.parametrize(("limit", "gateways"), [(100, 1), (100, 2), (100, 3), (10, 4), (1, 2)])
def test_gateways_together_let_in_the_limit(limit: int, gateways: int) -> None:
    """Ten times as many requests as the limit, spread over the gateways, for ten minutes."""
    windows = [Window() for _ in range(gateways)]
    share, let_in = limit / gateways, 0
    for n in range(10 * limit * 10):
        now, window = n * 6 / limit, windows[n % gateways]
        if window.wait_seconds(1, share, now) == 0:
            window.charge(1, share, now)
            let_in += 1
    assert 8 * limit <= let_in <= 12 * limit


def test_more_than_a_share_is_let_in_alone_and_paid_off() -> None:
    window = Window()
    assert window.wait_seconds(300, 100, 0.0) == 0
    slot = window.charge(300, 100, 0.0)
    assert window.wait_seconds(1, 100, 10.0) == 170
    window.correct(slot, 300, 30, 100, 10.0)
    assert window.wait_seconds(1, 100, 10.0) == 0
    assert window.used(10.0) == 30


def test_what_is_not_given_back_is_paid_off_after_its_minute() -> None:
    window = Window()
    slot = window.charge(300, 100, 0.0)
    window.correct(slot, 300, 250, 100, 10.0)
    assert window.used(70.0) == 0
    assert window.wait_seconds(1, 100, 70.0) == pytest.approx(80, abs=1)


def test_requests_per_minute() -> None:
    key, quota = replace(KEY, requests_per_minute=2), Quota()
    quota.charge(key, SMALL, 1, 0.0)
    quota.charge(key, SMALL, 1, 0.0)
    found = refusal(quota, key)
    assert (found.reason.name, found.wait_seconds) == ("RequestLimitReached", 61)
    assert str(found) == "the key alice has 2 requests per minute: there is room in 61 s"
    quota.charge(key, SMALL, 1, 61.0)


def test_tokens_are_charged_by_estimate_and_settled_on_use() -> None:
    key, quota = replace(KEY, tokens_per_minute=100), Quota()
    large = replace(SMALL, max_tokens=80)
    charge = quota.charge(key, large, 1, 0.0)
    found = refusal(quota, key)
    assert (found.reason.name, found.reason.status) == ("TokenLimitReached", 429)
    charge.settle(10, 5.0)
    assert quota.tokens.used(5.0) == 10
    assert quota.in_flight == 0
    again = quota.charge(key, large, 1, 5.0)
    again.settle(500, 200.0)
    assert quota.tokens.used(200.0) == 500 - 90
    assert quota.requests.used(0.0) == 0


def test_an_answer_of_unknown_length_costs_a_fixed_amount_until_it_is_there() -> None:
    assert cost(replace(SMALL, max_tokens=0)) == 10 + UNKNOWN_OUTPUT_TOKENS
    assert cost(SMALL) == 20


def test_a_request_that_never_fits_is_told_so_and_not_to_come_back() -> None:
    key = replace(KEY, tokens_per_minute=19)
    found = refusal(Quota(), key)
    assert (found.reason.name, found.reason.status) == ("RequestOverTokenLimit", 400)
    assert found.retry_after(120) is None
    assert "may take 20 tokens (prompt and max_tokens), and the key alice has 19" in str(found)


def test_a_request_above_the_share_of_one_gateway_is_still_let_in() -> None:
    key, quota = replace(KEY, tokens_per_minute=30), Quota()
    quota.charge(key, SMALL, 2, 0.0)
    found = refusal(quota, key, gateways=2)
    assert found.wait_seconds == 80
    assert "30 tokens per minute, divided by 2 gateways" in str(found)


def test_requests_in_flight() -> None:
    key, quota = replace(KEY, max_in_flight=2), Quota()
    first = quota.charge(key, SMALL, 1, 0.0)
    quota.charge(key, SMALL, 1, 0.0)
    found = refusal(quota, key)
    assert (found.reason.name, found.retry_after(120)) == ("InFlightLimitReached", 1)
    first.settle(0, 1.0)
    quota.charge(key, SMALL, 1, 1.0)


def test_every_gateway_lets_one_request_in_however_many_there_are() -> None:
    key, quota = replace(KEY, max_in_flight=2, requests_per_minute=1), Quota()
    quota.charge(key, SMALL, 5, 0.0)
    assert "2 requests at once, divided by 5 gateways" in str(refusal(quota, key, gateways=5))


def test_who_is_refused_is_not_charged() -> None:
    key, quota = replace(KEY, requests_per_minute=5, tokens_per_minute=20), Quota()
    quota.charge(key, SMALL, 1, 0.0)
    refusal(quota, key)
    assert (quota.in_flight, quota.requests.used(0.0), quota.tokens.used(0.0)) == (1, 1, 20)
