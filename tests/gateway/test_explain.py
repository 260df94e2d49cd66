"""`glm-gateway explain` says what `decide` does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from gateway_fakes import PNG_640x480, chat
from glm_serving.gateway.cli import main

TIERS = {
    "flagship": {"model": "glm-4.6v", "contextTokens": 131072},
    "flash": {"model": "glm-4.6v-flash", "contextTokens": 65536, "maxImages": 1},
}
RULES = [
    {"name": "maths", "tier": "flagship", "match": {"tasks": ["visual-maths"], "minImages": 2}},
    {"name": "batch", "tier": "flash", "match": {"headers": {"x-team": "batch"}}},
]
IMAGE = {"type": "image_url", "image_url": {"url": PNG_640x480}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({"version": 1, "tiers": TIERS, "rules": RULES}))
    return file


def explain(
    config: Path, capsys: pytest.CaptureFixture[str], *options: str, **body: Any
) -> tuple[int, list[str]]:
    request = config.parent / "request.json"
    request.write_bytes(chat(**body))
    code = main(["explain", "--config", str(config), str(request), *options])
    return code, capsys.readouterr().out.splitlines()


def picture(text: str, count: int = 1) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*[IMAGE] * count, {"type": "text", "text": text}]}]


def test_a_decision_is_explained(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = explain(config, capsys, messages=picture("Build this in HTML", 2))
    assert code == 0
    assert "facts      model 'glm'" in lines
    assert "           images 2" in lines
    assert "tiers      flagship  can serve it" in lines
    assert "           flash     no: it takes 1 images" in lines
    assert "rules      maths -> flagship: no: tasks" in lines
    assert "           batch -> flash: no: headers" in lines
    assert lines[-2].startswith("decision   flagship, x-glm-decision OnlyTierThatFits: ")
    assert lines[-1] == "           without flagship: it waits"


def test_a_rule_that_matches_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = explain(config, capsys, "--header", "X-Team: batch", messages=picture("Hi"))
    assert code == 0
    assert "           batch -> flash: matches" in lines
    assert any(line.startswith("decision   flash, x-glm-decision Rule/batch: ") for line in lines)


def test_degradation_is_shown(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = json.loads(config.read_text()) | {"degradation": "Degrade"}
    config.write_text(json.dumps(changed))
    messages = picture("Build this in HTML")
    _, lines = explain(config, capsys, messages=messages)
    assert lines[-2:] == [
        "           task design-to-code: lead 18.8 points, tolerance 5",
        "           without flagship: flash serves it with x-glm-degraded flagship",
    ]
    _, lines = explain(config, capsys, "--serving", "flash", messages=messages)
    assert "           x-glm-degraded flagship: that tier takes no request now" in lines


def test_an_open_loop_is_judged_by_its_opening(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *picture("Solve it"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [IMAGE]},
    ]
    _, lines = explain(config, capsys, "--header", "x-glm-task: visual-maths", messages=messages)
    assert "rules      maths -> flagship: matches; at the opening: no: minImages" in lines


def test_a_refusal_is_told_with_its_status(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = explain(config, capsys, model="gpt-5")
    assert code == 1
    assert lines[-1].startswith("refused    404 ModelNotFound: no model is named 'gpt-5'")
    code, lines = explain(config, capsys, "--path", "/v2/chat")
    assert (code, lines[-1]) == (
        1,
        "refused    404 PathNotFound: the gateway does not serve this path",
    )


def test_a_key_is_held_to_its_tiers(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines = explain(config, capsys, "--key-tiers", "flash", messages=picture("HTML, please"))
    assert "tiers      flagship  no: the key may not use it" in lines
    assert any("OnlyTierForKey" in line for line in lines)


def test_a_request_may_come_from_standard_input(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(chat())))
    assert main(["explain", "--config", str(config), "-"]) == 0
    assert "TextOnly" in capsys.readouterr().out


def test_files_that_cannot_be_read_are_named(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", "--config", str(config), str(config.parent / "no.json")]) == 2
    assert "no.json cannot be read: No such file" in capsys.readouterr().err
    config.write_text("{")
    assert main(["explain", "--config", str(config), "-"]) == 2
    assert "the configuration cannot be read" in capsys.readouterr().err
