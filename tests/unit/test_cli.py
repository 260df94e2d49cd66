"""The command itself: what it refuses, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from glm_operator import cli


def test_a_wrong_setting_is_one_sentence_and_ends_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["run", "--workers", "0"]) == 2
    assert capsys.readouterr().err == "glm-operator: GLM_OPERATOR_WORKERS is 0: use 1 to 64\n"


def test_a_setting_comes_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GLM_OPERATOR_WORKERS", "many")
    assert cli.main(["run"]) == 2
    assert "GLM_OPERATOR_WORKERS is 'many': use a number" in capsys.readouterr().err


def test_without_a_command_the_usage_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "usage: glm-operator" in capsys.readouterr().err


def test_generating_and_planning_need_no_client_of_a_cluster() -> None:
    heavy = "{'kopf', 'kubernetes', 'aiohttp', 'prometheus_client'}"
    program = f"import sys, glm_operator.cli; sys.exit(repr({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "set()"


HEAVY = "{'kopf', 'kubernetes', 'aiohttp', 'prometheus_client', 'asyncio'}"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "production.yaml"


def planned(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, output and errors of `glm-operator plan` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "glm_operator.cli", "plan", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=25,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("shape", "code", "start"),
    [
        ("8xH100-80GB", 0, "fits: "),
        ("4xL4-24GB", 3, "does not fit: "),
        ("8xH100", 2, "glm-operator: --node-shape is '8xH100': write it as"),
    ],
)
def test_the_exit_code_tells_a_script_what_a_person_reads(
    shape: str, code: int, start: str
) -> None:
    found, out, err = planned("-f", str(EXAMPLE), "--node-shape", shape)
    assert (found, (out or err)[: len(start)]) == (code, start)
    assert (out == "") == (code == 2)


def test_an_object_may_be_piped_in() -> None:
    code, out, _ = planned("-f", "-", "--node-shape", "8xH100-80GB", stdin=EXAMPLE.read_text())
    assert (code, out[:6]) == (0, "fits: ")


def test_planning_on_shapes_loads_no_client_of_a_cluster() -> None:
    plan = f"['plan', '-f', {str(EXAMPLE)!r}, '--node-shape', '8xH100-80GB']"
    program = f"import sys; from glm_operator import cli; cli.main({plan})"
    check = f"sys.exit(repr({HEAVY} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; {check}"], capture_output=True, text=True, timeout=25
    )
    assert done.stderr.strip() == "set()"
