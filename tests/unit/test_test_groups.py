"""What a run says of the tests that it leaves out, or cannot run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(90)

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

def test_plain(): pass

@pytest.mark.helm
def test_helm(): pass

@pytest.mark.cluster
def test_cluster(): pass

@pytest.mark.cluster
@pytest.mark.full
def test_long(): pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with this suite's conftest and one test of each group."""
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_groups.py").write_text(TESTS)
    markers = "".join(f"  {name}: group\n" for name in ("helm", "cluster", "engine", "full"))
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers =\n{markers}")
    return tmp_path


def run(suite: Path, *arguments: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    kept |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "GLM_TEST_KUBECONFIG": ""}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=suite,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "with workers"])
def test_what_is_left_out_is_counted_by_group(suite: Path, workers: tuple[str, ...]) -> None:
    said = run(suite, *workers, "-m", "not (helm or cluster or engine or full)")
    assert "3 tests were left out of this run: 1 cluster, 1 full, 1 helm" in said
    assert "1 passed" in said


def test_a_cluster_test_without_root_fails_with_one_sentence(suite: Path) -> None:
    (suite / "sitecustomize.py").write_text("import os\nos.geteuid = lambda: 1000\n")
    said = run(suite, "-m", "cluster and not full", PYTHONPATH=str(suite))
    assert "needs Linux and root: use `make test FAST=1`" in said
    assert "1 error" in said


def test_a_cluster_test_without_root_runs_on_a_cluster_that_is_given(suite: Path) -> None:
    (suite / "sitecustomize.py").write_text("import os\nos.geteuid = lambda: 1000\n")
    said = run(suite, "-m", "cluster", PYTHONPATH=str(suite), GLM_TEST_KUBECONFIG="file")
    assert "2 passed" in said
