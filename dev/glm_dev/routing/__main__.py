"""Print the table of docs/routing.md and what differs, or renew it: `python -m glm_dev.routing`."""

from __future__ import annotations

import argparse
import sys

from glm_dev.routing.measure import judged
from glm_dev.routing.page import FILE, renewed, table
from glm_dev.routing.requests import labelled


def main() -> int:
    """Print the table, and the tuning requests on which gateway and label differ."""
    parser = argparse.ArgumentParser(prog="python -m glm_dev.routing", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew docs/routing.md")
    if parser.parse_args().write:
        FILE.write_text(renewed(FILE.read_text()))
        return 0
    print(table())
    # The held-out half is not shown: whoever sees it would tune the rules to it.
    for one in judged(labelled("tuning")):
        wanted = (one.request.tier, one.request.task)
        if (one.tier, one.task) != wanted:
            print(f"{one.request.id}: {one.tier} {one.task or '-'} ({one.header}), label {wanted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
