"""What somebody's own cluster must offer before the demo begins on it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from glm_dev.site import SiteError, foreign_site

IMAGES = [f"localhost/glm-{name}:dev" for name in ("operator", "gateway", "weights", "engine-sim")]


def node(gpus: int, images: list[str]) -> dict[str, Any]:
    listed = [{"names": [image]} for image in images]
    return {"status": {"allocatable": {"nvidia.com/gpu": str(gpus)}, "images": listed}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with a Helm, and a kubectl that shows `nodes.json`; nobody is root."""
    for name in ("helm", "kubectl"):
        (tmp_path / name).write_text(f'#!/bin/sh\ncat "{tmp_path}/nodes.json"\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / "config").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path


def opened(folder: Path, *nodes: dict[str, Any]) -> None:
    (folder / "nodes.json").write_text(json.dumps({"items": nodes}))
    foreign_site(folder / "config")


def test_two_gpus_on_one_node_and_a_third_are_enough(folder: Path) -> None:
    opened(folder, node(2, IMAGES), node(1, IMAGES))


@pytest.mark.parametrize(
    ("gpus", "words"),
    [
        ((1, 1, 1), "offers 3 nvidia.com/gpu, at most 1 of them on one node"),
        ((2,), "offers 2 nvidia.com/gpu, at most 2 of them on one node"),
        ((), "offers 0 nvidia.com/gpu, at most 0 of them on one node"),
    ],
)
def test_gpus_that_do_not_do_are_counted_in_the_refusal(
    folder: Path, gpus: tuple[int, ...], words: str
) -> None:
    with pytest.raises(SiteError, match=words):
        opened(folder, *(node(count, IMAGES) for count in gpus))


def test_an_image_that_a_node_lacks_is_named_with_the_way_to_load_it(folder: Path) -> None:
    with pytest.raises(SiteError, match="lack localhost/glm-gateway:dev: build them with `make im"):
        opened(folder, node(4, IMAGES), node(0, [IMAGES[0], *IMAGES[2:]]))


def test_a_node_that_lists_all_it_may_is_warned_of_and_not_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(folder, node(4, [f"other:{number}" for number in range(49)] + IMAGES[:1]))
    warning = capsys.readouterr().err
    assert "Some nodes list 50 images" in warning
    assert "not localhost/glm-engine-sim:dev, localhost/glm-gateway:dev, localhost/glm-w" in warning


def test_a_node_with_a_short_list_is_refused_beside_one_with_a_full_list(folder: Path) -> None:
    full = [f"other:{number}" for number in range(50)]
    with pytest.raises(SiteError, match="The nodes lack localhost/glm-engine-sim:dev"):
        opened(folder, node(4, full), node(0, IMAGES[:3]))
