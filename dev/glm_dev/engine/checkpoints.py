"""Makes the tiny checkpoints of the three architectures with the engine's own transformers."""

from __future__ import annotations

from pathlib import Path

from glm_dev.engine import sandbox
from glm_dev.engine.paths import (
    MODELS_IN_CONTAINER,
    PYTHON_IN_CONTAINER,
    RECIPE_FOLDER,
    Engine,
)
from glm_dev.images import commands
from glm_dev.images.base import locked, making
from glm_dev.paths import cache_dir

KINDS = ("flagship", "flash", "text")
RECIPE_IN_SANDBOX = "/opt/recipe"
MAKE_SECONDS = 300


def make_checkpoints(found: Engine) -> None:
    """Make the checkpoints of an installed engine where this recipe's are missing.

    Raises:
        BuildError: the recipe failed.
    """
    with locked(cache_dir() / "engine" / "checkpoints.lock"):
        if not found.models.exists():
            _make(found)


def _make(found: Engine) -> None:
    with making(found.models) as unfinished:
        for kind in KINDS:
            (unfinished / kind).mkdir()
            _make_one(found, unfinished, kind)
        for path in unfinished.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)


def _make_one(found: Engine, models: Path, kind: str) -> None:
    inside = sandbox.Sandbox(
        found.root,
        models,
        writable=True,
        env={"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        shared={RECIPE_FOLDER: RECIPE_IN_SANDBOX},
    )
    script = f"{RECIPE_IN_SANDBOX}/make.py"
    target = f"{MODELS_IN_CONTAINER}/{kind}"
    commands.run(
        inside.command([PYTHON_IN_CONTAINER, script, kind, target]),
        log=found.folder / f"checkpoint-{kind}.log",
        seconds=MAKE_SECONDS,
    )
    print(f"made the tiny {kind} checkpoint", flush=True)
