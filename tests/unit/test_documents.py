"""Every GLMDeployment that a page or an example shows can be applied as it is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator.api import names
from glm_operator.api.v1alpha1 import GLMDeployment

ROOT = Path(__file__).resolve().parents[2]
HEREDOC = re.compile(r"<<'?EOF'?\n(.*?)^ *EOF$", re.DOTALL | re.MULTILINE)
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "charts/glm-operator/templates/NOTES.txt",
]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def objects(text: str) -> Iterator[dict[str, Any]]:
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and document.get("kind") == names.KIND:
            yield document


SHOWN = [
    pytest.param(shown, id=f"{path.relative_to(ROOT)}-{index}")
    for path in PAGES
    for index, block in enumerate(HEREDOC.findall(path.read_text()))
    for shown in objects(block)
] + [
    pytest.param(shown, id=f"{path.relative_to(ROOT)}-{index}")
    for path in EXAMPLES
    for index, shown in enumerate(objects(path.read_text()))
]


@pytest.mark.parametrize("shown", SHOWN)
def test_a_shown_object_is_accepted(shown: dict[str, Any]) -> None:
    assert GLMDeployment.parse(shown).name == shown["metadata"]["name"]


def test_objects_were_found() -> None:
    assert len(SHOWN) >= len(EXAMPLES) + 2
