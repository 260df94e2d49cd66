"""`python -m glm_dev.hub.make KIND FOLDER`: a checkpoint from nothing, for the small hub."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glm_dev.hub import configs
from glm_dev.hub.checkpoints import make_checkpoint

MODELS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "flagship": configs.flagship,
    "flash": configs.flash,
}
FORMATS: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "bf16": lambda config: config,
    "fp8": configs.with_fp8,
    "int4": configs.with_awq,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Make one checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m glm_dev.hub.make", description=__doc__)
    parser.add_argument("model", choices=MODELS, help="which model")
    parser.add_argument("folder", type=Path, help="where to; it is made")
    parser.add_argument("--format", choices=FORMATS, default="bf16", help="of the weights")
    parser.add_argument(
        "--tiny", action="store_true", help="three layers of random numbers, not the real size"
    )
    arguments = parser.parse_args(argv)
    model = MODELS[arguments.model]()
    config = FORMATS[arguments.format](configs.tiny(model) if arguments.tiny else model)
    make_checkpoint(arguments.folder, config, hollow=not arguments.tiny)
    return 0


if __name__ == "__main__":
    sys.exit(main())
