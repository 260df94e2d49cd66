"""Generated files are what the generator writes, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from glm_operator import cli
from glm_operator.api import crd, reference

ROOT = Path(__file__).resolve().parents[2]
GENERATED = reference.generated()


@pytest.mark.parametrize("path", sorted(GENERATED))
def test_a_generated_file_is_in_step(path: str) -> None:
    assert (ROOT / path).read_bytes() == GENERATED[path].encode(), "run `make crds`"


def test_the_command_prints_the_crd(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["crd"]) == 0
    assert capsys.readouterr().out == GENERATED[crd.CRD_FILE]


def test_the_command_writes_every_generated_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    for path in GENERATED:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    assert cli.main(["crd", "--write", str(tmp_path)]) == 0
    written = {path: (tmp_path / path).read_text() for path in GENERATED}
    assert written == GENERATED


def test_the_command_writes_into_a_checkout_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["crd", "--write", str(tmp_path)]) == cli.EXIT_BAD_INPUT
    assert "is not a checkout" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_chart_s_copy_has_no_template_but_ours() -> None:
    lines = GENERATED[crd.CHART_FILE].splitlines()
    templates = [line.strip() for line in lines if "{{" in line or "}}" in line]
    assert templates == [
        "{{- if .Values.crds.enabled }}",
        "{{- if .Values.crds.keep }}",
        "{{- end }}",
        "{{- end }}",
    ]


def test_the_chart_s_copy_is_the_same_definition() -> None:
    lines = GENERATED[crd.CHART_FILE].splitlines()
    manifest = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    assert manifest["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert manifest == crd.definition()


def test_braces_in_descriptions_would_be_escaped() -> None:
    assert crd.escaped("a {{ b") == 'a {{ "{{" }} b'
