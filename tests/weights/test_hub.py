"""The small hub as a program, and checkpoints of the real size on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkpoint_facts import stored_facts
from glm_dev.hub import __main__ as program
from glm_dev.hub import make
from glm_dev.hub.repository import Repository
from glm_serving.weights.hub import Access
from glm_serving.weights.hub import Repository as Remote
from glm_serving.weights.inspect import read_checkpoint


@contextmanager
def served(*words: str) -> Iterator[list[str]]:
    """`python -m glm_dev.hub` on a free port; gives its first lines, the address last."""
    process = subprocess.Popen(
        [sys.executable, "-m", "glm_dev.hub", *words, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        while not lines or not lines[-1].startswith("HF_ENDPOINT="):
            lines.append(process.stdout.readline().strip())
            assert lines[-1], "the hub ended"
        yield lines
    finally:
        process.kill()
        process.communicate()


def test_a_checkpoint_of_the_real_size_is_read_in_seconds(tmp_path: Path) -> None:
    folder = tmp_path / "zai-org" / "GLM-4.6V-FP8"
    assert make.main(["flagship", str(folder), "--format", "fp8"]) == 0
    with served(str(folder), "--hollow") as lines:
        remote = Remote("zai-org/GLM-4.6V-FP8", "", Access(lines[-1].removeprefix("HF_ENDPOINT=")))
        facts = read_checkpoint(remote, stored_facts("glm-4.6v-fp8")["commit"])
    assert facts == stored_facts("glm-4.6v-fp8")
    assert lines[0].startswith("hf://zai-org/GLM-4.6V-FP8  revision main  commit ")


@pytest.mark.parametrize(
    ("text", "name", "branch", "folder"),
    [
        ("/data/org/model", "org/model", "main", "/data/org/model"),
        ("o/n=/data", "o/n", "main", "/data"),
        ("o/n@dev=/data", "o/n", "dev", "/data"),
    ],
)
def test_a_folder_is_served_under_a_name_and_a_branch(
    text: str, name: str, branch: str, folder: str
) -> None:
    assert program.split(text) == (name, branch, Path(folder))


def test_a_folder_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["o/n=/nowhere"]) == 2
    assert "There is no folder /nowhere." in capsys.readouterr().err


def test_equal_folders_are_equal_commits_and_branches_keep_theirs(tmp_path: Path) -> None:
    repository = Repository("o/n")
    for name, text in (("one", "{}"), ("same", "{}"), ("other", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    first = repository.publish(tmp_path / "one")
    assert repository.publish(tmp_path / "same", "copy").sha == first.sha
    second = repository.publish(tmp_path / "other")
    assert first.sha != second.sha
    found = [repository.find(name) for name in ("copy", "main", first.sha[:7], "absent")]
    assert [commit and commit.sha for commit in found] == [first.sha, second.sha, first.sha, None]
