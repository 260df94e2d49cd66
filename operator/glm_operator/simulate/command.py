"""The subcommand `simulate`: its flags, its progress, its files."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from glm_operator.preview.errors import InvalidInputError
from glm_operator.simulate import report
from glm_operator.simulate.scenarios import SCENARIOS, Scenario
from glm_operator.simulate.sweep import OURS, SETPOINTS, Case, Point, points, run, sweep

EXIT_OK, EXIT_BAD_INPUT = 0, 2
CALIBRATIONS = (1.0, 0.8, 1.25)
"""Seed by seed our law's costs are right, too low, too high: nobody's calibration is perfect."""
DRAWN = (OURS, "hpa-in-flight", "kpa")
"""The laws in the time plot."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `glm-operator simulate`."""
    parser.description = (
        "Runs the operator's scaling law and those that people use today on simulated engines, "
        "each over its own setpoints, and says what each needs to meet the objectives."
    )
    names = ", ".join(SCENARIOS)
    parser.add_argument(
        "--scenario",
        action="append",
        choices=tuple(SCENARIOS),
        metavar="NAME",
        help=f"one of {names}; may be repeated (default: all)",
    )
    parser.add_argument(
        "--law",
        action="append",
        choices=tuple(SETPOINTS),
        metavar="NAME",
        help=f"one of {', '.join(SETPOINTS)}; may be repeated (default: all)",
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: cores")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="DIR",
        help="write plots (SVG) and numbers (JSON) there",
    )


def simulate(options: argparse.Namespace) -> int:
    """Run the comparison. Returns the exit code."""
    names = options.scenario or list(SCENARIOS)
    laws = options.law or list(SETPOINTS)
    try:
        if not 1 <= options.seeds <= 50:
            raise InvalidInputError(f"--seeds is {options.seeds}: use 1 to 50")
        found = {name: _compare(SCENARIOS[name], laws, options) for name in names}
    except InvalidInputError as error:
        print(f"glm-operator simulate: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(report.table(found))
    if options.output is not None:
        _write(options.output, found)
    return EXIT_OK


def _compare(scenario: Scenario, laws: Sequence[str], options: argparse.Namespace) -> list[Point]:
    cases = [
        Case(scenario.name, law, setpoint, seed, CALIBRATIONS[seed % len(CALIBRATIONS)])
        for law in laws
        for setpoint in SETPOINTS[law]
        for seed in range(options.seeds)
    ]
    scores = sweep(cases, options.workers, lambda done, all_: _progress(scenario.name, done, all_))
    return points(scores)


def _progress(name: str, done: int, of: int) -> None:
    end = "\n" if done == of else ""
    if sys.stderr.isatty():
        print(f"\r{name}: {done} of {of} runs", end=end, file=sys.stderr, flush=True)
    elif done == of:
        print(f"{name}: {of} runs", file=sys.stderr, flush=True)


def _write(folder: Path, found: Mapping[str, Sequence[Point]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulation.json").write_text(json.dumps(report.as_data(found), indent=1) + "\n")
    for name, own in found.items():
        (folder / f"{name}-frontier.svg").write_text(report.frontier_plot(name, own))
        best = report.chosen(own)
        outcomes = {law: run(Case(name, law, best[law], 0))[1] for law in DRAWN if law in best}
        if outcomes:
            (folder / f"{name}-replicas.svg").write_text(report.time_plot(name, outcomes))
    print(f"plots and numbers are in {folder}")
