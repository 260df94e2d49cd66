"""The real vLLM's own parser reads the command line of every preset, format and kind of node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from glm_dev.engine.install import install
from glm_dev.engine.paths import PYTHON_IN_CONTAINER
from glm_dev.engine.sandbox import Sandbox
from glm_operator import catalog
from glm_operator.api.enums import Quantization
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.catalog import gpus
from glm_operator.manifests.arguments import arguments
from glm_operator.plan.fit import fit
from glm_operator.plan.observed import Defaults, Node
from glm_operator.plan.resolve import Inputs, sized_engine

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "vllm_parses.py"


def inputs(model: catalog.Model, quantization: str, resource: str, **context: Any) -> Inputs:
    tier = {
        "model": {"preset": model.preset, "uri": "hf://zai-org/any", "quantization": quantization},
        "placement": {"acceleratorResource": resource},
        "context": context,
    }
    raw = {"metadata": {"name": "vision"}, "spec": {"tiers": {model.tier: tier}}}
    spec = GLMDeployment.parse(raw).spec
    return Inputs(model.tier, dict(spec.tiers.items())[model.tier], (), Defaults())


def command_lines() -> dict[str, list[str]]:
    """Every way that the planner would start an engine on nodes of known GPUs."""
    found = {}
    for model in catalog.MODELS.values():
        for quantization in set(Quantization) - {Quantization.AUTO}:
            for gpu in gpus.GPUS:
                for kv_cache in ("Auto", "FP8"):
                    wanted = inputs(model, quantization.value, gpu.resource, kvCacheDType=kv_cache)
                    found |= _of(wanted, gpu)
    return found


def _of(wanted: Inputs, gpu: catalog.GPU) -> dict[str, list[str]]:
    nodes = [
        Node("n", gpus.labels_of(gpu), allocatable={gpu.resource: count}) for count in (1, 2, 4, 8)
    ]
    options = fit(wanted.ask, wanted.constraints, nodes).options
    name = f"{wanted.model.preset} {wanted.tier.model.quantization}"
    return {
        f"{name} {option.describe()}": arguments(sized_engine(wanted, option)) for option in options
    }


def parsed(lines: list[list[str]], folder: Path) -> list[str | None]:
    """What vLLM's parser says to each command line."""
    (folder / "lines.json").write_text(json.dumps(lines))
    (folder / SCRIPT.name).write_text(SCRIPT.read_text())
    folder.chmod(0o755)
    inside = Sandbox(install().root, shared={folder: "/lines"})
    argv = [PYTHON_IN_CONTAINER, f"/lines/{SCRIPT.name}", "/lines/lines.json"]
    done = subprocess.run(
        inside.command(argv), capture_output=True, text=True, check=True, timeout=240
    )
    answers: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_vllm_takes_every_command_line_that_the_planner_may_write(tmp_path: Path) -> None:
    lines = command_lines()
    assert {line.split()[0] for line in lines} == set(catalog.MODELS)
    broken = ["--model", "m", "--tensor-parallel-size", "two"]
    *answers, of_broken = parsed([*lines.values(), broken], tmp_path)
    assert of_broken is not None
    refused = {line: said for line, said in zip(lines, answers, strict=True) if said is not None}
    assert refused == {}
