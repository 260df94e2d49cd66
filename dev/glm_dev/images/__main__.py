"""`python -m glm_dev.images build [NAME ...]`: archives of images, printed with their paths."""

from __future__ import annotations

import argparse
import sys

from glm_dev.images.build import build_images
from glm_dev.images.catalog import IMAGES, PRODUCT
from glm_dev.images.errors import BuildError


def main() -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m glm_dev.images", description=__doc__)
    parser.add_argument("command", choices=("build",))
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(IMAGES)}; without any: {', '.join(PRODUCT)}",
    )
    names = parser.parse_args().names or PRODUCT
    try:
        for name, archive in build_images(names).items():
            print(f"{IMAGES[name].reference}\t{archive}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
