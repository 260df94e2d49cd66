"""The catalogue of reasons is closed: what is said is listed, and what is listed is said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from glm_operator.api import reasons
from glm_operator.api.reasons import CATALOGUE, Kind
from glm_serving.gateway import reasons as gateway

OPERATOR = Path(__file__).resolve().parents[2] / "operator" / "glm_operator"
OURS = (Kind.CONDITION, Kind.EVENT, Kind.CHECK)
REASON_ARGUMENT = {"Condition": 2, "Cause": 0, "Event": 1, "Verdict": 1}
"""Position of the reason in the calls that say one."""


TREES = [
    (path, ast.parse(path.read_text()))
    for path in sorted(OPERATOR.rglob("*.py"))
    if path.parent.name != "api"
]


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, reason) of every reason that is written as a string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            at = REASON_ARGUMENT.get(node.func.id, 99)
            given = node.args[at] if at < len(node.args) else None
            if isinstance(given, ast.Constant):
                yield given.lineno, str(given.value)


def names_used() -> set[str]:
    """Constants of the catalogue that the operator's code reads."""
    return {
        node.attr
        for _, tree in TREES
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "reasons"
    }


def test_no_reason_is_written_as_a_string() -> None:
    found = [f"{path.name}:{line}: {text}" for path, tree in TREES for line, text in literals(tree)]
    assert found == []


def test_every_reason_of_ours_is_used() -> None:
    ours = {name for name, reason in CATALOGUE.items() if set(OURS) & set(reason.kinds)}
    constants = {name for name, value in vars(reasons).items() if str(value) in ours}
    assert constants - names_used() == set()


@pytest.mark.parametrize("reason", CATALOGUE.values(), ids=lambda reason: reason.name)
def test_a_reason_is_one_word_with_one_sentence(reason: reasons.Reason) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z]{2,63}", reason.name)
    assert re.fullmatch(r"[^.]+(\..+)?\.", reason.sentence)
    assert reason.kinds


def test_a_reason_cannot_be_listed_twice() -> None:
    with pytest.raises(ValueError, match="Serving is in the catalogue twice"):
        reasons._condition("Serving", "Again.")


def test_the_gateway_s_reasons_are_in_the_catalogue_with_the_same_sentence() -> None:
    theirs = {name: entry.sentence for name, entry in gateway.DECISIONS.items()}
    theirs |= {name: entry.sentence for name, entry in gateway.ERRORS.items()}
    kinds = {Kind.DECISION, Kind.ERROR}
    ours = {name: one.sentence for name, one in CATALOGUE.items() if kinds & set(one.kinds)}
    assert ours == theirs
