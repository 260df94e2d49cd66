"""The command itself: what it refuses, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

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
