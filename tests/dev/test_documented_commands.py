"""A command of a page works where `make venv` is all that was done: nothing is on PATH then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
BARE = re.compile(r"^(?:python3? |glm-operator |glm-gateway ).*", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_name_the_virtual_environment(page: Path) -> None:
    shown = SHELL.findall(page.read_text())
    assert [line for block in shown for line in BARE.findall(block)] == []
