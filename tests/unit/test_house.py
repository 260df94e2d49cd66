"""The rules of the house that no linter knows."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROOT_FILES = {
    ".ci",
    ".dockerignore",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "charts",
    "crds",
    "dev",
    "docs",
    "examples",
    "operator",
    "pyproject.toml",
    "requirements",
    "serving",
    "tests",
}
ISSUE_TARGETS = {"demo", "test", "test-full", "lint", "bench", "crds", "chart", "images", "clean"}
LINK = re.compile(
    r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\""
)
NAMED_PATH = re.compile(
    r"`((?:charts|crds|dev|docs|examples|operator|requirements|serving|tests)/[\w./-]*)`"
)
# Spelled in pieces so that this file does not break its own rule.
MACHINE_PATHS = re.compile(
    "|".join(["/" + "work/", r"(?<![\w.$}>-])/" + "root/", r"\." + "library"])
)


def committed() -> list[Path]:
    """Every committed file, as a path below the root."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str:
    """The text of a file, empty for what is not UTF-8."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


COMMITTED = committed()
PAGES = [path for path in COMMITTED if path.suffix == ".md"]
# Overrides are an input of the resolver, as pyproject.toml is, and not what it found.
LOCKS = [
    path
    for path in sorted((ROOT / "requirements").glob("*.txt"))
    if not path.name.endswith("-overrides.txt")
]


def relative(path: Path) -> str:
    """The path below the root, as a test's name."""
    return str(path.relative_to(ROOT))


def test_the_operator_folder_is_no_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists(), "it would shadow the standard library"


def test_the_root_holds_what_is_expected_only() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in COMMITTED} <= ROOT_FILES


def test_no_committed_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = {
        relative(path): hit[0] for path in COMMITTED if (hit := MACHINE_PATHS.search(text_of(path)))
    }
    assert found == {}


@pytest.mark.parametrize("lock", LOCKS, ids=relative)
def test_a_lock_is_hashed_and_names_no_index(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|--index|--extra-index|--find-links|-f)\b", text, re.MULTILINE)
    pins = re.split(r"^(?=[\w.-]+(?:\[.*\])?==)", text, flags=re.MULTILINE)[1:]
    assert pins
    assert [pin.split("\n")[0] for pin in pins if "--hash=sha256:" not in pin] == []


def test_every_target_is_in_help() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = set(" ".join(re.findall(r"^\.PHONY:(.*)$", text, re.MULTILINE)).split())
    helped = set(re.findall(r"^([a-z][a-z-]*):.*?## \S", text, re.MULTILINE))
    assert phony == helped
    assert helped >= ISSUE_TARGETS


def test_every_module_that_a_target_runs_exists() -> None:
    modules = set(re.findall(r"\$\(PY\) -m ([\w.]+)", (ROOT / "Makefile").read_text()))
    runnable = {
        name
        for name in modules
        if (found := importlib.util.find_spec(name))
        and (not found.submodule_search_locations or importlib.util.find_spec(f"{name}.__main__"))
    }
    assert modules == runnable


def test_versions_agree() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((ROOT / "charts/glm-operator/Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_of_a_page_resolve(page: Path) -> None:
    targets = ["".join(groups) for groups in LINK.findall(page.read_text())]
    local = [target.split("#")[0] for target in targets if "://" not in target]
    assert [target for target in local if target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = set(NAMED_PATH.findall(page.read_text()))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_script_stops_at_the_first_error() -> None:
    scripts = [path for path in COMMITTED if text_of(path).startswith("#!/usr/bin/env bash")]
    assert scripts
    assert [relative(path) for path in scripts if "set -euo pipefail" not in text_of(path)] == []


def test_every_script_is_executable() -> None:
    scripts = [path for path in COMMITTED if text_of(path).startswith("#!")]
    assert [relative(path) for path in scripts if not path.stat().st_mode & 0o111] == []
