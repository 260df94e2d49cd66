"""`make clean`, in a checkout of its own with a `.venv` that only takes notes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = f"""#!/bin/sh
[ "$1" != -c ] || exec {sys.executable} "$@"
echo "$@" >> calls
"""
BOOTSTRAP = """#!/bin/sh
mkdir -p "$2/bin" && cp python "$2/bin/python"
"""
DOWN = "-m glm_dev.cluster down --all\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The Makefile and what it needs, without a `.venv`."""
    for name in ("Makefile", "dev/glm_dev/__init__.py", "dev/glm_dev/paths.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for name in ("requirements/dev.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    executable(tmp_path / "python", PYTHON)
    executable(tmp_path / "dev/bootstrap.sh", BOOTSTRAP)
    return tmp_path


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def clean(checkout: Path, python: str = sys.executable) -> int:
    return subprocess.run(
        ["make", "clean", f"PYTHON={python}"],
        cwd=checkout,
        env={**os.environ, "GLM_OPERATOR_CACHE": str(checkout / "cache")},
        capture_output=True,
        timeout=20,
        check=False,
    ).returncode


def cluster(checkout: Path) -> None:
    (checkout / "cache/clusters/demo").mkdir(parents=True)


def test_a_cluster_is_taken_down_where_the_virtual_environment_is_gone(checkout: Path) -> None:
    cluster(checkout)
    assert clean(checkout) == 0
    assert (checkout / "calls").read_text() == DOWN
    assert not (checkout / ".venv").exists()


def test_a_cluster_is_taken_down_where_the_virtual_environment_is_half_made(checkout: Path) -> None:
    cluster(checkout)
    (checkout / ".venv/bin").mkdir(parents=True)
    executable(checkout / ".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    assert clean(checkout) == 0
    assert (checkout / "calls").read_text() == DOWN


def test_a_cluster_is_taken_down_where_no_other_python_is(checkout: Path) -> None:
    cluster(checkout)
    subprocess.run(["make", "venv"], cwd=checkout, capture_output=True, timeout=20, check=True)
    assert clean(checkout, python="/nowhere/python3") == 0
    assert (checkout / "calls").read_text() == DOWN


def test_nothing_is_installed_where_no_cluster_is_left(checkout: Path) -> None:
    (checkout / "dev/bootstrap.sh").write_text("#!/bin/sh\nexit 1\n")
    assert clean(checkout) == 0


def test_a_cluster_that_nobody_can_take_down_is_no_success(checkout: Path) -> None:
    cluster(checkout)
    assert clean(checkout, python="/nowhere/python3") != 0
