"""`make bench`: measure planner and gateway and print the tables of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import sys

from glm_dev.bench import gateway, plan


def main() -> int:
    """Run the measurements; the exit code is 1 where they cannot run."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--nginx", default="nginx", help="nginx program to compare with")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats of each case")
    arguments = parser.parse_args()
    print(plan.measure(arguments.repeats), end="\n\n", flush=True)
    try:
        table = gateway.measure(arguments.nginx, arguments.repeats)
    except gateway.BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
