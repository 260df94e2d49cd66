"""The labelled requests: agreement, hard constraints, near misses of the rules, time."""

from __future__ import annotations

import re
import statistics
import time

import pytest

from glm_dev.routing import page
from glm_dev.routing.measure import CHOICES, Judged, judged, policy, score
from glm_dev.routing.requests import HALVES, labelled
from glm_serving.gateway import priors, tasks
from glm_serving.gateway.decide import Hints, State, decide
from glm_serving.gateway.facts.model import Opening

SETS = {half: judged(labelled(half)) for half in HALVES}
EVERY = [*SETS["tuning"], *SETS["held-out"]]
LEAST_AGREEMENT = 90


def test_the_set_is_large_and_half_of_it_is_held_out() -> None:
    ids = [one.request.id for one in EVERY]
    assert len(ids) == len(set(ids)) >= 200
    assert len(SETS["held-out"]) >= 100
    # One request more or less of each task.
    for task in {one.request.task for one in EVERY}:
        counts = [sum(one.request.task == task for one in half) for half in SETS.values()]
        assert abs(counts[0] - counts[1]) <= 1, task


def test_the_gateway_agrees_with_the_labels_that_its_rules_were_not_written_for() -> None:
    assert score(SETS["held-out"], CHOICES["the gateway"]).agreement >= LEAST_AGREEMENT


@pytest.mark.parametrize("half", HALVES)
def test_no_choice_breaks_a_hard_constraint(half: str) -> None:
    assert score(SETS[half], CHOICES["the gateway"]).misfits == 0


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "the gateway"])
def test_no_baseline_comes_near(name: str) -> None:
    gateway = score(SETS["held-out"], CHOICES["the gateway"])
    assert score(SETS["held-out"], CHOICES[name]).agreement <= gateway.agreement - 20


@pytest.mark.parametrize("task", priors.TASKS)
def test_each_task_is_recognised_in_most_of_its_requests(task: str) -> None:
    of_task = [one for one in SETS["held-out"] if one.request.task == task]
    right = [one for one in of_task if one.task == task]
    assert len(right) >= 0.5 * len(of_task), [one.request.id for one in of_task]


@pytest.mark.parametrize(
    ("task", "text", "near_miss"),
    [
        ("gui-agent", "Which button do I click next?", "What clicks in this clock?"),
        ("design-to-code", "Build this in HTML.", "Is the front end of this car damaged?"),
        ("visual-maths", "Find the angle at B.", "Which angel is this?"),
        ("grounding", "Give the bounding box of the dog.", "What is in the box?"),
        ("ocr-and-charts", "Transcribe it.", "Is the plot of land large enough?"),
    ],
)
def test_each_rule_of_the_tasks_has_a_counterexample(task: str, text: str, near_miss: str) -> None:
    assert tasks.infer(Opening(images=1, text=text), False, False) == task
    assert tasks.infer(Opening(images=1, text=near_miss), False, False) == "general"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("browser_click", True), ("takeScreenshot", True), ("lookup_keynote", False)],
)
def test_a_tool_operates_a_screen_by_the_words_of_its_name(name: str, expected: bool) -> None:
    assert tasks.operates_screen(name) is expected


@pytest.mark.parametrize(
    ("system", "task"),
    [
        ("You are a web agent.", "gui-agent"),
        ("You browse for the user. Answer with Click [n], Type [n] or Scroll [n].", "gui-agent"),
        ("Your code runs on a desktop: move mouse and keyboard with pyautogui.", "gui-agent"),
        ("You are a travel agent.", "general"),
        ("Describe the screenshot. Which type of chart is it?", "ocr-and-charts"),
        ("You turn screenshots into React components.", "design-to-code"),
        (f"You are a helpful assistant. {'Be kind. ' * 30} Write HTML when asked.", "general"),
    ],
)
def test_a_system_text_says_what_the_users_words_leave_open(system: str, task: str) -> None:
    opening = Opening(images=1, text="Cancel the order.", system=system)
    assert tasks.infer(opening, False, False) == task


@pytest.mark.parametrize(
    "text",
    [
        *("gui agent", "computer-use agent", "browser automation agent", "control this device"),
        *("use the smartphone", "the next ui action", "i tap next", "scroll(", "下一步操作"),
    ],
)
def test_the_fast_look_for_screen_agents_misses_none(text: str) -> None:
    assert tasks.infer(Opening(images=1, text=f"Well, {text} please"), False, False) == "gui-agent"


def test_the_users_words_come_before_those_of_the_system_text() -> None:
    opening = Opening(images=1, text="Transcribe it.", system="You write HTML and CSS.")
    assert tasks.infer(opening, False, False) == "ocr-and-charts"


def test_a_decision_takes_at_most_twenty_microseconds_in_the_median() -> None:
    rules, state = policy(), State(frozenset({"flagship", "flash"}))

    def microseconds(one: Judged) -> float:
        hints = Hints(task=one.request.headers.get("x-glm-task", ""))
        best = float("inf")
        for _ in range(5):
            began = time.perf_counter()
            decide(one.facts, hints, state, rules)
            best = min(best, time.perf_counter() - began)
        return best * 1e6

    assert statistics.median(map(microseconds, EVERY)) <= 20


def test_the_table_of_the_docs_is_what_is_measured() -> None:
    """Within a seventh: estimates of tokens move the costs a little without moving a choice."""
    shown = page.FILE.read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    for was, now in zip(rows(shown), rows(page.table()), strict=True):
        assert was[:2] == now[:2]
        assert was[2:] == pytest.approx(now[2:], rel=0.15, abs=0.1), (
            "docs/routing.md differs: renew it with python -m glm_dev.routing --write"
        )


def rows(table: str) -> list[list[str | float]]:
    """The cells of a table, numbers as such."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line[:2] == "| "][1:]
    return [
        [*cells[:2], *(float(re.sub(r"[^\d.]", "", cell)) for cell in cells[2:])] for cells in lines
    ]
