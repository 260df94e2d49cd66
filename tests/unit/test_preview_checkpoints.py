"""`glm-operator plan --checkpoint`: planned by what a checkpoint is, not by its preset."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from glm_operator import cli
from object_cases import FLAGSHIP, FLASH, REMOVED, base, changed
from recorded_facts import FOLDER, facts

ALONE = changed({FLASH: REMOVED})
IN_IMAGE = {f"{FLAGSHIP}.model.uri": "image:///models/flagship"}
BELIEVED = {f"{FLAGSHIP}.weights.prePull": "Disabled"}

Plan = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Plan:
    """Plans an object with checkpoints: exit code, report, standard error."""

    def run(written: dict[str, Any], *checkpoints: str) -> tuple[int, dict[str, Any], str]:
        (tmp_path / "object.yaml").write_text(yaml.safe_dump(written))
        flags = [flag for one in checkpoints for flag in ("--checkpoint", one)]
        common = ["plan", "-f", str(tmp_path / "object.yaml"), "--node-shape", "8xH100-80GB"]
        code = cli.main([*common, "-o", "json", "--explain", *flags])
        shown = capsys.readouterr()
        return code, json.loads(shown.out or "{}"), shown.err

    return run


def fixture(name: str) -> str:
    return str(FOLDER / f"{name}.json")


def test_the_checkpoint_counts_and_what_differs_is_told(plan: Plan) -> None:
    code, report, _ = plan(ALONE, fixture("glm-4.6v"))
    flagship = report["tiers"]["flagship"]
    assert (code, flagship["quantization"], flagship["tensor"]) == (0, "BF16", 4)
    assert flagship["checkpointBytes"] == facts("glm-4.6v")["bytes"]
    assert "the checkpoint is BF16" in flagship["warnings"][0]
    assert flagship["explain"][0]["weights"][0]["format"] == "BF16"


def test_a_checkpoint_as_published_changes_nothing_but_its_bytes_on_disk(plan: Plan) -> None:
    _, believed, _ = plan(ALONE)
    _, told, _ = plan(ALONE, fixture("glm-4.6v-fp8"))
    for report in (believed, told):
        del report["totals"]["checkpointBytes"], report["tiers"]["flagship"]["checkpointBytes"]
    assert told == believed


def test_what_the_engine_does_not_serve_is_the_verdict(plan: Plan) -> None:
    code, report, _ = plan(ALONE, fixture("glm-4.6v-unsupported"))
    assert (code, report["reason"]) == (3, "ArchitectureUnsupported")
    assert "Glm46VForConditionalGeneration" in report["message"]
    assert report["tiers"]["flagship"]["explain"] == []


def test_the_table_says_that_it_cannot_be_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "object.yaml").write_text(yaml.safe_dump(ALONE))
    common = ["plan", "-f", str(tmp_path / "object.yaml"), "--node-shape", "8xH100-80GB"]
    assert cli.main([*common, "--checkpoint", fixture("glm-4.6v-unsupported")]) == 3
    shown = capsys.readouterr().out
    assert shown.startswith("cannot be served: flagship cannot serve hf://")
    assert "does not fit" not in shown


def test_each_tier_has_a_checkpoint_of_its_own(plan: Plan) -> None:
    flash = fixture("glm-4.6v-flash-awq")
    _, report, _ = plan(base(), f"flagship={fixture('glm-4.6v')}", f"flash={flash}")
    kinds = {name: tier["quantization"] for name, tier in report["tiers"].items()}
    assert kinds == {"flagship": "BF16", "flash": "INT4"}


def test_all_that_glm_weights_prints_is_understood(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = {"version": 1, "outcome": "Done", "reason": "", "facts": facts("glm-4.6v")}
    standard_input = io.TextIOWrapper(io.BytesIO(json.dumps(printed).encode()))
    monkeypatch.setattr("sys.stdin", standard_input)
    _, report, _ = plan(ALONE, "-")
    assert report["tiers"]["flagship"]["quantization"] == "BF16"


def test_a_file_whose_name_holds_an_equals_sign_is_a_file(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "step=7.json"
    file.write_text(json.dumps(facts("glm-4.6v")))
    assert plan(ALONE, str(file))[0] == 0


@pytest.mark.parametrize(
    ("changes", "why"),
    [(IN_IMAGE, "model.uri is image://"), (BELIEVED, "weights.prePull is Disabled")],
    ids=["image", "believed"],
)
def test_a_checkpoint_that_the_operator_would_not_read_is_noted(
    plan: Plan, changes: dict[str, Any], why: str
) -> None:
    _, report, _ = plan(changed(changes, ALONE), fixture("glm-4.6v-fp8"))
    assert why in report["notes"][0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "holds no facts of a checkpoint"),
        ("{}", "holds no facts of a checkpoint"),
        ("{facts: 3}", "holds no facts of a checkpoint"),
        ("{text: {read: 2026-11-25}}", "holds no facts of a checkpoint"),
        ("{architectures: [a]}", "`glm-weights read --path FOLDER`"),
        ("{outcome: Failed, reason: FileMissing, message: no index.}", "(FileMissing: no index)"),
        ("a: [", "is neither YAML nor JSON"),
    ],
)
def test_a_file_without_facts_is_one_sentence(
    plan: Plan, tmp_path: Path, content: str, words: str
) -> None:
    file = tmp_path / "facts.json"
    file.write_text(content)
    code, _, told = plan(ALONE, str(file))
    assert (code, told.count("\n")) == (2, 1)
    assert words in told


@pytest.mark.parametrize(
    ("written", "given", "words"),
    [
        (base(), ["a.json"], "write it as flagship=a.json"),
        (ALONE, ["flash=a.json"], "names the tier flash, and the object has flagship"),
        (ALONE, [fixture("glm-4.6v")] * 2, "given twice for flagship"),
        (ALONE, [str(FOLDER)], "a folder, and this command reads no weights"),
        (ALONE, ["/nowhere/a.json"], "/nowhere/a.json cannot be read"),
        (base(), ["flagship=-", "flash=-"], "--checkpoint and --checkpoint are -"),
    ],
    ids=["no tier", "no such tier", "twice", "folder", "missing", "standard input"],
)
def test_flags_that_cannot_be_meant_are_one_sentence(
    plan: Plan, written: dict[str, Any], given: list[str], words: str
) -> None:
    code, _, told = plan(written, *given)
    assert (code, told.count("\n")) == (2, 1)
    assert words in told
