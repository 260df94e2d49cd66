"""Long programs: their failures say what happened, and nothing runs longer than allowed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from glm_dev.images import BuildError, commands


def test_a_failure_shows_the_last_words_of_the_program(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"(?s)failed, see .*the disk is full"):
        commands.run(
            ["sh", "-c", "echo the disk is full; exit 3"], log=tmp_path / "log", seconds=10
        )


def test_a_program_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BuildError, match="took longer than 0 s"):
        commands.run(["sleep", "60"], log=tmp_path / "log", seconds=0.2)
    assert time.monotonic() - began < 20


def test_progress_is_shown_while_a_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "PROGRESS_SECONDS", 0.05)
    commands.run(
        ["sleep", "0.4"], log=tmp_path / "log", seconds=10, progress=lambda gone: "half of it"
    )
    assert "half of it" in capsys.readouterr().out


def test_a_missing_program_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BuildError, match="Please install its-package"):
        commands.need("no-such-program", "its-package")
