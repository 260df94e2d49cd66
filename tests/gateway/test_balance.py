"""Which replica gets a request."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_serving.gateway.balance import (
    EXPECTED_OUTPUT_TOKENS,
    LOAD_CAP,
    MAX_KNOWN,
    WARM_UP_SECONDS,
    Demand,
    Load,
    choose,
    demand,
)

WARM = WARM_UP_SECONDS
LONG = demand(text_tokens=50_000, conversation="long")
SHORT = demand(text_tokens=100, conversation="short")


def loads(*work: int, since: float = 0.0) -> list[Load]:
    made = []
    for one in work:
        load = Load(since)
        load.work = one
        made.append(load)
    return made


def knowing(load: Load, *demands: Demand) -> Load:
    for one in demands:
        load.remember(one)
    return load


def pick(found: list[Load], asked: Demand, now: float = WARM) -> int:
    return choose(found, asked, now, lambda: 0.5)


def test_the_replica_with_the_least_work_is_chosen() -> None:
    assert pick(loads(500, 20, 700), SHORT) == 1


def test_work_counts_and_not_requests() -> None:
    """One request of 100,000 tokens is more to wait for than ten short ones."""
    ten = sum(SHORT.prefill + SHORT.decode for _ in range(10))
    assert pick(loads(100_000, ten), SHORT) == 1


def test_image_tokens_weigh_more_than_text() -> None:
    text, images = demand(text_tokens=1000), demand(image_tokens=1000)
    assert images.prefill == 1400 > text.prefill


def test_output_counts_as_far_as_it_is_expected() -> None:
    assert demand(output_tokens=10).decode < demand(output_tokens=1000).decode
    assert demand(output_tokens=10**6).decode == demand(output_tokens=EXPECTED_OUTPUT_TOKENS).decode


def test_a_conversation_goes_back_to_where_it_was_computed() -> None:
    two = loads(30_000, 0)
    knowing(two[0], LONG)
    assert pick(two, LONG) == 0
    assert pick(two, SHORT) == 1


def test_a_short_conversation_does_not_go_back_to_a_busy_replica() -> None:
    two = loads(30_000, 0)
    knowing(two[0], SHORT)
    assert pick(two, SHORT) == 1


def test_a_replica_far_above_the_others_is_not_chosen_for_what_it_knows() -> None:
    busy = round(LOAD_CAP * 2 * (LONG.prefill + LONG.decode)) * 10
    three = loads(busy, 0, 0)
    knowing(three[0], LONG)
    assert pick(three, LONG) != 0


def test_images_go_back_to_where_they_were_encoded() -> None:
    seen = demand(text_tokens=10, image_tokens=5000, conversation="a", media=(1, 2))
    again = demand(text_tokens=10, image_tokens=5000, conversation="b", media=(2, 3))
    two = loads(500, 0)
    knowing(two[0], seen)
    assert two[0].saved(again) == 1000
    assert pick(two, again) == 0
    two[0].work = 1500
    assert pick(two, again) == 1


def test_a_replica_that_started_anew_knows_nothing() -> None:
    (one,) = loads(0)
    knowing(one, LONG).forget()
    assert one.saved(LONG) == 0


def test_a_fresh_replica_gets_a_tenth_of_its_share_first_and_all_of_it_later() -> None:
    def share(age: float) -> float:
        old, fresh = loads(0)[0], loads(0, since=1000.0)[0]
        counts: Counter[int] = Counter()
        for serial in range(1, 1001):
            place = pick([old, fresh], SHORT, 1000.0 + age)
            one = (old, fresh)[place]
            one.work += SHORT.prefill + SHORT.decode
            one.picked = serial
            counts[place] += 1
        return counts[1] / 1000

    assert 0.05 < share(0.0) < 0.12
    assert share(0.0) < share(WARM / 2) < share(WARM)
    assert share(WARM) == pytest.approx(0.5, abs=0.01)


def test_a_fresh_replica_alone_gets_everything() -> None:
    assert pick(loads(0, since=5.0), SHORT, 5.0) == 0


def test_equals_take_turns() -> None:
    three = loads(0, 0, 0)
    got = []
    for serial in range(1, 7):
        place = pick(three, SHORT)
        three[place].picked = serial
        got.append(place)
    assert got == [0, 1, 2, 0, 1, 2]


def test_what_looks_idle_and_is_not_gets_two_in_n_at_most_while_blind() -> None:
    dice = random.Random(4)
    five = loads(0, 900, 900, 900, 900)
    counts = Counter(choose(five, SHORT, WARM, dice.random, blind=True) for _ in range(5000))
    assert counts[0] / 5000 == pytest.approx(2 / 5, abs=0.03)
    assert min(counts.values()) > 500


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.randoms(), st.booleans())
def test_a_choice_is_one_of_the_replicas(work: list[int], dice: random.Random, blind: bool) -> None:
    found = loads(*work)
    knowing(dice.choice(found), LONG)
    assert 0 <= choose(found, LONG, WARM, dice.random, blind) < len(found)


@given(st.lists(st.integers(0, 10**5), min_size=2, max_size=8), st.data())
def test_what_a_replica_knows_never_costs_more_than_it_saves(
    work: list[int], data: st.DataObject
) -> None:
    found = loads(*work)
    for load in found:
        if data.draw(st.booleans()):
            knowing(load, LONG)
    best = found[pick(found, LONG)]
    least = min(load.work for load in found)
    assert best.work - least <= LONG.prefill
    assert best.work <= max(least, LOAD_CAP * (sum(work) / len(work) + LONG.prefill + LONG.decode))


@given(st.lists(st.integers(0, 3 * MAX_KNOWN), max_size=50))
def test_what_is_remembered_is_bounded_and_the_latest(keys: list[int]) -> None:
    (one,) = loads(0)
    for media in range(0, 3 * MAX_KNOWN, 64):
        one.remember(demand(media=tuple(range(media, media + 64))))
    for key in keys:
        one.remember(demand(conversation=f"c{key}", text_tokens=10))
    assert len(one._known) <= MAX_KNOWN
    for key in keys:
        assert one.saved(demand(conversation=f"c{key}", text_tokens=10)) == 10


def test_most_of_a_growing_conversation_is_computed_once_and_the_work_stays_even() -> None:
    """Forty conversations over four replicas, sixteen requests at a time."""
    dice = random.Random(7)
    four = loads(0, 0, 0, 0)
    turns: Counter[int] = Counter()
    saved = asked_for = 0
    done: Counter[int] = Counter()
    running: list[tuple[Load, int]] = []
    for serial in range(1, 2001):
        which = dice.randrange(40)
        turns[which] += 1
        asked = demand(text_tokens=2000 + 500 * turns[which], conversation=f"c{which}")
        place = pick(four, asked)
        load = four[place]
        spared = load.saved(asked)
        load.remember(asked)
        load.picked = serial
        work = asked.prefill - spared + asked.decode
        load.work += work
        done[place] += work
        saved, asked_for = saved + spared, asked_for + asked.prefill
        running.append((load, work))
        if len(running) > 16:
            load, work = running.pop(0)
            load.work -= work
    assert saved / asked_for > 0.9
    assert max(done.values()) < 1.3 * min(done.values())
