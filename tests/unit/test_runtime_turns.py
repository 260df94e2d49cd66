"""Whose turn it is."""

from __future__ import annotations

import pytest

from glm_operator.runtime.turns import Turns

A, B, C = ("ml", "a"), ("ml", "b"), ("ml", "c")


@pytest.fixture
def woken() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def turns(woken: list[tuple[str, str]]) -> Turns:
    return Turns(woken.append)


def test_one_key_at_a_time_has_the_turn(turns: Turns) -> None:
    assert turns.take(A)
    assert turns.take(A)
    assert not turns.take(B)


def test_while_closed_all_stand_in_line(turns: Turns, woken: list[tuple[str, str]]) -> None:
    turns.close()
    assert not turns.take(A)
    assert not turns.take(B)
    turns.give_back(A)
    assert woken == []
    turns.open()
    assert woken == [A]
    assert turns.take(A)
    turns.give_back(A)
    assert woken == [A, B]


def test_those_in_line_have_their_turns_in_the_order_they_came(
    turns: Turns, woken: list[tuple[str, str]]
) -> None:
    turns.take(A)
    for key in (C, B, C):
        turns.take(key)
    turns.give_back(A)
    assert woken == [C]
    assert not turns.take(A), "it is kept for the key that was woken"
    assert turns.take(C)
    turns.give_back(C)
    turns.give_back(B)
    assert woken == [C, B, A]


def test_a_turn_that_is_not_wanted_any_more_goes_on(
    turns: Turns, woken: list[tuple[str, str]]
) -> None:
    turns.take(A)
    turns.take(B)
    turns.take(C)
    turns.give_back(A)
    turns.give_back(B)
    assert woken == [B, C]
    turns.give_back(C)
    assert turns.take(A)


def test_only_who_has_the_turn_can_give_it_back(turns: Turns, woken: list[tuple[str, str]]) -> None:
    turns.take(A)
    turns.take(B)
    turns.give_back(B)
    turns.give_back(C)
    assert woken == []
    assert not turns.take(C)


def test_a_key_that_gets_its_turn_leaves_the_line(
    turns: Turns, woken: list[tuple[str, str]]
) -> None:
    turns.take(A)
    turns.take(B)
    turns.give_back(A)
    turns.take(B)
    turns.give_back(B)
    assert woken == [B]
