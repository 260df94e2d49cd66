"""`python -m glm_dev.engine install|status`."""

from __future__ import annotations

import argparse
import sys

from glm_dev.engine.checkpoints import KINDS
from glm_dev.engine.install import install
from glm_dev.engine.paths import engine
from glm_dev.images.errors import BuildError


def main() -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m glm_dev.engine", description=__doc__)
    parser.add_argument("command", choices=("install", "status"))
    command = parser.parse_args().command
    try:
        found = install() if command == "install" else engine()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    for path in (found.root, *(found.models / kind for kind in KINDS)):
        print(f"{path}: {'there' if path.exists() else 'missing'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
