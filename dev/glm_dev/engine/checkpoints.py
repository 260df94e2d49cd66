"""Makes the tiny checkpoints of the three architectures with the engine's own transformers."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from glm_dev.engine import recipe, sandbox
from glm_dev.engine.paths import MODELS_IN_CONTAINER, PYTHON_IN_CONTAINER, Engine
from glm_dev.images import commands
from glm_dev.images.base import locked, making
from glm_dev.paths import cache_dir

KINDS = ("flagship", "flash", "text")
RECIPE_IN_SANDBOX = "/opt/recipe"
STAMP = "recipe"
"""File beside the checkpoints with the hash of what made them."""
MAKE_SECONDS = 300


def make_checkpoints(found: Engine) -> None:
    """Make the checkpoints of an installed engine where they are missing or of another recipe.

    Raises:
        BuildError: the recipe failed.
    """
    with locked(cache_dir() / "engine" / "checkpoints.lock"):
        if not _current(found.models):
            shutil.rmtree(found.models, ignore_errors=True)
            _make(found)


def recipe_hash() -> str:
    """Names the recipe's content."""
    files = sorted(path for path in _recipe_folder().iterdir() if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _recipe_folder() -> Path:
    return Path(recipe.__path__[0])


def _current(models: Path) -> bool:
    stamp = models / STAMP
    return stamp.exists() and stamp.read_text() == recipe_hash()


def _make(found: Engine) -> None:
    with making(found.models) as unfinished:
        for kind in KINDS:
            (unfinished / kind).mkdir()
            _make_one(found, unfinished, kind)
        for path in unfinished.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        (unfinished / STAMP).write_text(recipe_hash())


def _make_one(found: Engine, models: Path, kind: str) -> None:
    inside = sandbox.Sandbox(
        found.root,
        models,
        writable=True,
        env={"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        shared={_recipe_folder(): RECIPE_IN_SANDBOX},
    )
    script = f"{RECIPE_IN_SANDBOX}/make.py"
    target = f"{MODELS_IN_CONTAINER}/{kind}"
    commands.run(
        inside.command([PYTHON_IN_CONTAINER, script, kind, target]),
        log=found.folder / f"checkpoint-{kind}.log",
        seconds=MAKE_SECONDS,
    )
    print(f"made the tiny {kind} checkpoint", flush=True)
