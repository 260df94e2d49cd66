"""The configuration's JSON Schema, and what is said of a file without serving it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway_fakes import DATA, config, run, running
from glm_serving.gateway import cli, schema
from glm_serving.gateway.checking import read
from glm_serving.gateway.config import LogLevel
from glm_serving.gateway.filesource import FileSource

COMMITTED = Path(__file__).resolve().parents[2] / "docs/gateway-config.schema.json"
TIER = {"model": "m", "contextTokens": 1}


def properties(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property that a schema defines, with its path."""
    for name, definition in node.get("properties", {}).items():
        yield f"{where}{name}", definition
    for name, definition in node.get("$defs", {}).items():
        yield from properties(definition, f"{name}.")


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "gateway.json"
    path.write_text(json.dumps({"version": 1, "tiers": {"flash": TIER}} | changes))
    return path


def test_the_committed_schema_is_the_generated_one() -> None:
    again = "run: .venv/bin/glm-gateway schema > docs/gateway-config.schema.json"
    assert COMMITTED.read_text() == schema.text(), again


def test_every_key_is_described() -> None:
    found = dict(properties(schema.schema()))
    assert "TierConfig.joining" in found
    assert [path for path, definition in found.items() if not definition["description"]] == []


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert capsys.readouterr().out == schema.text()


def test_a_good_file_is_said_to_be_usable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, **{"$schema": "gateway-config.schema.json"})
    assert cli.main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path} can be used: tiers flash\n"


def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, logLevel="loud")
    assert cli.main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"glm-gateway: {path}: ")
    assert "loud" in said
    assert "logLevel" in said


def test_a_misspelt_key_is_named_at_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = {"name": "a", "url": "http://e:1", "weight": 2}
    tiers = {"flash": TIER | {"endpoints": [endpoint], "maxImage": 3}}
    path = written(tmp_path, limits={"maxHeldRequest": 5}, tiers=tiers)
    assert read(path)[1] == [
        "tiers.flash.endpoints.0.weight",
        "tiers.flash.maxImage",
        "limits.maxHeldRequest",
    ]
    assert cli.main(["check", str(path)]) == 2
    assert f"{path}: limits.maxHeldRequest is no key" in capsys.readouterr().err


def test_a_misspelt_key_is_logged_and_the_rest_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, generation=4, autoModle="x")
    assert FileSource(path).read().generation == 4
    assert "autoModle is no key" in caplog.text


def test_every_key_of_the_shared_fixture_has_an_effect() -> None:
    assert read(DATA / "gateway-config.json")[1] == []


def test_the_level_of_the_log_follows_the_configuration() -> None:
    log = logging.getLogger("glm_gateway")

    async def scenario() -> None:
        async with running() as gateway:
            assert log.level == logging.INFO
            gateway.gateway.apply(config(log_level=LogLevel.ERROR))
            assert log.level == logging.ERROR
            gateway.gateway.apply(config())
            assert log.level == logging.INFO

    run(scenario())
