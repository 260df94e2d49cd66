"""`make bench`: measure planner, gateway and weights; print the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from glm_dev.bench import gateway, plan, weights
from glm_dev.bench.proxies import BenchError

PARTS = ("planner", "gateway", "weights")


def main() -> int:
    """Run the measurements; the exit code is 1 where they cannot run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--nginx", default="nginx", help="nginx program to compare with")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats of each case")
    parser.add_argument("--only", choices=PARTS, help="leave the others out")
    parser.add_argument("--chart", type=Path, help="write the planner's growth curve here (SVG)")
    arguments = parser.parse_args()
    parts = (arguments.only,) if arguments.only else PARTS
    if "planner" in parts:
        _planner(arguments.repeats, arguments.chart)
    if "weights" in parts:
        print(weights.measure(arguments.repeats), end="\n\n", flush=True)
    return _gateway(arguments.nginx, arguments.repeats) if "gateway" in parts else 0


def _planner(repeats: int, chart: Path | None) -> None:
    measured = plan.points(repeats)
    print(plan.table(measured), end="\n\n", flush=True)
    if chart is not None:
        chart.write_text(plan.chart(measured), encoding="utf-8")


def _gateway(nginx: str, repeats: int) -> int:
    try:
        table = gateway.measure(nginx, repeats)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
