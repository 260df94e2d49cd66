"""`python -m glm_dev.prepare`: everything that `make test` needs beyond Python, built once.

Tests have short time limits; what takes minutes the first time is therefore done before them, with
progress. Every part is kept in the cache, so that a second run has nothing to do.
"""

from __future__ import annotations

import sys
import time

from glm_dev.cluster import ClusterError, binaries, preflight
from glm_dev.engine.install import install
from glm_dev.images import BuildError, build_images
from glm_dev.images.catalog import IMAGES
from glm_dev.prometheus import PrometheusMissingError, program


def main() -> int:
    """Prepare everything; 1 with one sentence when this machine cannot run the cluster."""
    started = time.monotonic()
    try:
        preflight.require_host(binaries.say_on_stderr)
        binaries.build((*binaries.CONTROL_PLANE, *binaries.NODES, binaries.HELM))
        program()
        install()
        build_images(tuple(IMAGES))
    except (ClusterError, BuildError, PrometheusMissingError) as error:
        print(f"{error} `make test FAST=1` needs Python only.", file=sys.stderr)
        return 1
    print(f"Prepared in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
