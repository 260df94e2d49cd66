"""What images are made of, and the archives that come out."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest

from glm_dev.images import BuildError, build, build_images
from glm_dev.images.catalog import IMAGES, ROOT, Image

ROOT_USER = re.compile(r"^(0|root)?(:.*)?$")


def dockerfile(image: Image) -> list[str]:
    text = (ROOT / image.dockerfile).read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("name", IMAGES)
def test_the_content_hash_covers_everything_the_dockerfile_copies(name: str) -> None:
    image = IMAGES[name]
    copies = [line.split()[1:-1] for line in dockerfile(image) if line.startswith("COPY ")]
    copied = {path for paths in copies if not paths[0].startswith("--from") for path in paths}
    assert copied == set(image.inputs)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_a_numbered_user_that_is_not_root(name: str) -> None:
    users = [line.split()[1] for line in dockerfile(IMAGES[name]) if line.startswith("USER ")]
    assert users == ["10001:10001"]


@pytest.mark.parametrize("name", IMAGES)
def test_no_dockerfile_names_a_registry(name: str) -> None:
    bases = [line.split()[1] for line in dockerfile(IMAGES[name]) if line.startswith("FROM ")]
    defaults = [line for line in dockerfile(IMAGES[name]) if line.startswith("ARG BASE=")]
    assert set(bases) == {"${BASE}"}
    assert defaults == ["ARG BASE=python:3.11-slim"]


def test_an_edited_source_gives_another_content_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    image = IMAGES["engine-sim"]
    before = image.content_hash()
    edited = ROOT / "dev/glm_dev/simulator/server.py"
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) + b"#" * (p == edited))
    assert image.content_hash() != before


def test_an_unknown_image_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(BuildError, match="no image is called 'gpu': there are operator, gateway"):
        build_images(["gpu"])


def test_without_root_the_build_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GLM_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BuildError, match="Building images needs Linux and root"):
        build_images(["engine-sim"])


@pytest.fixture(scope="module")
def archives() -> dict[str, Path]:
    return build_images(IMAGES)


def config(archive: Path) -> Any:
    """The image's own configuration from an archive as `docker save` writes it."""
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        return json.load(tar.extractfile(manifest[0]["Config"])), manifest[0]  # type: ignore[arg-type]


def files(archive: Path) -> set[str]:
    """Names of all files of all layers."""
    names: set[str] = set()
    with tarfile.open(archive) as tar:
        for layer in config(archive)[1]["Layers"]:
            with tarfile.open(fileobj=tar.extractfile(layer)) as inner:
                names.update(inner.getnames())
    return names


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", IMAGES)
def test_an_archive_carries_its_name_and_a_user_that_is_not_root(
    archives: dict[str, Path], name: str
) -> None:
    found, manifest = config(archives[name])
    assert manifest["RepoTags"] == [f"localhost/glm-{name}:dev"]
    assert not ROOT_USER.match(found["config"]["User"])


@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("operator", "opt/app/src/glm_operator/cli.py", "glm_serving"),
        ("gateway", "opt/app/src/glm_serving/gateway/cli.py", "glm_operator"),
        ("weights", "opt/app/src/glm_serving/weights/cli.py", "glm_serving/gateway"),
        ("engine-sim", "opt/sim/glm_dev/simulator/server.py", "glm_dev/cluster"),
    ],
)
def test_an_image_holds_its_own_package_and_no_other(
    archives: dict[str, Path], name: str, there: str, absent: str
) -> None:
    names = files(archives[name])
    assert there in names
    assert [found for found in names if absent in found] == []


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_the_engine_image_has_libnuma_and_no_compiler(archives: dict[str, Path]) -> None:
    names = files(archives["engine-cpu"])
    programs = {Path(name).name for name in names if Path(name).parent.name == "bin"}
    assert any(name.endswith("/libnuma.so.1") for name in names)
    assert programs.isdisjoint({"gcc", "g++", "cc", "c++", "clang"})


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_unchanged_inputs_are_not_built_again(
    archives: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(image: Image, archive: Path, log: Path) -> None:
        raise AssertionError(f"{image.name} was built again")

    monkeypatch.setattr(build, "_build", never)
    assert build_images(["engine-cpu"]) == {"engine-cpu": archives["engine-cpu"]}
