"""The rules between fields, judged by Python. The API server's judgement: tests/cluster."""

from __future__ import annotations

import pytest

from glm_operator.api import flags, gateway_rules, rules, weights_rules
from glm_operator.api.errors import InvalidObject
from glm_operator.api.model import Rule
from glm_operator.api.v1alpha1 import GLMDeployment
from object_cases import CASES, EDIT_CASES, Case, changed

GROUPS = (
    rules.MODEL,
    rules.ENGINE,
    rules.VARIABLE,
    rules.CONTEXT,
    rules.TOLERATION,
    rules.NODE_AUTOSCALER,
    rules.PLACEMENT,
    weights_rules.WEIGHTS,
    rules.SCALING,
    rules.FLASH,
    rules.TIERS,
    gateway_rules.LIMITS,
    gateway_rules.MATCH,
    gateway_rules.ROUTING,
    gateway_rules.GATEWAY,
    gateway_rules.SPEC,
    rules.OBJECT,
    rules.tier("heads", *rules.CONTEXT_LIMITS),
)
ALL: tuple[Rule, ...] = tuple(rule for group in GROUPS for rule in group)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_that_obeys_the_rule_is_accepted(case: Case) -> None:
    assert GLMDeployment.parse(changed(case.accepted)).kind == "GLMDeployment"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_object_that_breaks_the_rule_gets_its_sentence(case: Case) -> None:
    with pytest.raises(InvalidObject) as caught:
        GLMDeployment.parse(changed(case.rejected))
    assert case.sentence in str(caught.value)


def test_every_rule_has_a_case() -> None:
    covered = {case.rule for case in (*CASES, *EDIT_CASES)}
    assert {rule.name for rule in ALL} == covered


def test_every_rule_about_one_object_is_judged_by_python_too() -> None:
    without = {rule.name for rule in ALL if rule.holds is None}
    assert without == {case.rule for case in EDIT_CASES}


@pytest.mark.parametrize("flag", [*flags.OPERATOR_FLAGS, *flags.DANGEROUS_FLAGS])
def test_every_listed_flag_is_refused_in_each_spelling(flag: str) -> None:
    spellings = (flag, f"{flag}=x", flag.replace("-", "_").replace("__", "--", 1), f"{flag}.a")
    refused = [flags.is_operators(word) or flags.is_dangerous(word) for word in spellings]
    assert refused == [True] * 4


@pytest.mark.parametrize(
    "word", ["--enforce-eager", "--model-impl", "8", "-1", "a--port", "--quantization", "-O3"]
)
def test_other_words_are_accepted(word: str) -> None:
    assert not flags.is_operators(word)
    assert not flags.is_dangerous(word)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.tiers.flash.placement.nodeAutoscaler.nodeShape", "8xH100-80GB\n"),
        ("spec.tiers.flash.model.uri", "hf://zai-org/GLM-4.6V-Flash\n"),
    ],
)
def test_a_line_break_at_the_end_is_no_part_of_a_value(path: str, value: str) -> None:
    # As a YAML block writes it. CEL's `$` matches at the very end only, Python's before it too.
    with pytest.raises(InvalidObject):
        GLMDeployment.parse(changed({path: value}))
