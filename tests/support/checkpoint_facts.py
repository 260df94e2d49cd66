"""The facts of tests/data/checkpoints, made from shapes of models: `--write` renews them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from glm_dev.hub import configs
from glm_dev.hub.checkpoints import make_checkpoint
from glm_serving.weights.folder import Folder
from glm_serving.weights.inspect import read_checkpoint

FOLDER = Path(__file__).resolve().parents[1] / "data" / "checkpoints"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIGS: Mapping[str, dict[str, Any]] = {
    "glm-4.6v": configs.flagship(),
    "glm-4.6v-fp8": configs.with_fp8(configs.flagship()),
    "glm-4.6v-unsupported": configs.unsupported(configs.flagship()),
    "glm-4.6v-flash": configs.flash(),
    "glm-4.6v-flash-awq": configs.with_awq(configs.flash()),
}
"""Name of the fixture -> config.json."""


def made_facts(name: str) -> dict[str, Any]:
    """The facts of a hollow checkpoint of that configuration."""
    with TemporaryDirectory() as scratch:
        folder = make_checkpoint(Path(scratch), CONFIGS[name], hollow=True)
        return read_checkpoint(Folder(folder), COMMIT)


def stored_facts(name: str) -> dict[str, Any]:
    """The fixture that the operator's tests read too."""
    facts: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return facts


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: checkpoint_facts.py --write")
    for each in CONFIGS:
        (FOLDER / f"{each}.json").write_text(json.dumps(made_facts(each), indent=2) + "\n")
