"""The simulator beside what the real vLLM answered, request by request."""

from __future__ import annotations

import json
from typing import Any

import pytest

import conformance
from simulators import Engine, simulated


@pytest.fixture(scope="module")
def recorded() -> Any:
    return json.loads(conformance.RECORDED.read_text())


@pytest.fixture(scope="module")
def simulator() -> Any:
    with simulated(*conformance.FLAGS) as engine:
        yield engine


@pytest.mark.parametrize("name", conformance.ANSWERS)
def test_an_answer_has_the_shape_of_the_real_one(
    simulator: Engine, recorded: Any, name: str
) -> None:
    case = {name: conformance.ANSWERS[name]}
    assert (
        conformance.ask(simulator.url, case, conformance.summary)[name] == recorded["answers"][name]
    )


@pytest.mark.parametrize("name", conformance.ERRORS)
def test_an_error_is_the_real_one_word_for_word(
    simulator: Engine, recorded: Any, name: str
) -> None:
    case = {name: conformance.ERRORS[name]}
    assert conformance.ask(simulator.url, case, conformance.fault)[name] == recorded["errors"][name]


def test_the_list_of_models_has_the_shape_of_the_real_one(simulator: Engine, recorded: Any) -> None:
    assert conformance.shape(simulator.get("/v1/models").value) == recorded["models"]


def test_the_metrics_have_the_names_and_labels_of_the_real_ones(
    simulator: Engine, recorded: Any
) -> None:
    assert conformance.samples(simulator.get("/metrics").text) == recorded["metrics"]
