"""Print docs/sizing.md, or renew it and the comments of examples/: `python -m glm_dev.sizing`."""

from __future__ import annotations

import argparse
import sys

from glm_dev.sizing.examples import examples, renewed
from glm_dev.sizing.page import FILE, page


def main() -> int:
    """Print the page, or write everything that is generated from the planner's answers."""
    parser = argparse.ArgumentParser(prog="python -m glm_dev.sizing", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the page and the examples")
    if not parser.parse_args().write:
        print(page(), end="")
        return 0
    for example in examples():
        example.write_text(renewed(example))
    FILE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
