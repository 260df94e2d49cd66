"""What the catalogue counts on each GPU is what the real vLLM's own model classes hold there."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glm_dev.engine.install import install
from glm_dev.engine.paths import MODELS_IN_CONTAINER, PYTHON_IN_CONTAINER
from glm_dev.engine.sandbox import Sandbox
from glm_operator import catalog
from glm_operator.catalog import Format, Sharding
from recorded_facts import facts

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

SCRIPT = Path(__file__).parent / "vllm_weighs.py"
ROTARY = {
    "rope_type": "default",
    "rope_theta": 500_000.0,
    "partial_rotary_factor": 0.5,
    "mrope_section": [8, 12, 12],
}
"""That of the published checkpoints; the tiny ones have smaller heads."""
PER_OUTPUT = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
PER_TOKEN = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "token"}
FP8 = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "ignore": ["lm_head", "re:.*visual.*"],
    "config_groups": {
        "all": {
            "targets": ["Linear"],
            "weights": PER_OUTPUT,
            "input_activations": PER_TOKEN | {"dynamic": True},
        }
    },
}
TEXT = {
    "hidden_size": 5_120,
    "num_hidden_layers": 92,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 12_288,
    "moe_intermediate_size": 1_536,
    "n_routed_experts": 160,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "vocab_size": 151_552,
    "use_qk_norm": True,
}


@dataclass(frozen=True)
class Case:
    """A model as a checkpoint has it, on so many GPUs."""

    preset: str
    kind: str
    tensor: int

    @property
    def tier(self) -> str:
        """The tiny checkpoint whose tokenizer and architecture are the same."""
        return catalog.get(self.preset).tier

    def counted(self) -> int:
        """What the catalogue says."""
        model, sharding = catalog.get(self.preset), Sharding(self.tensor)
        return catalog.stage_weight_bytes(model, Format(self.kind), sharding)[0]

    def config(self) -> dict[str, Any]:
        """What differs from the config.json of the tiny checkpoint."""
        stored = {"quantization_config": FP8} if self.kind == "FP8" else {}
        if self.preset == "GLM-4.6":
            return TEXT | stored
        told = facts(self.preset.lower())
        text = told["text"] | {"rope_parameters": ROTARY}
        return {"text_config": text, "vision_config": told["vision"]} | stored


CASES = (
    Case("GLM-4.6V", "BF16", 1),
    Case("GLM-4.6V", "BF16", 16),
    Case("GLM-4.6V", "FP8", 4),
    Case("GLM-4.6V-Flash", "BF16", 1),
    Case("GLM-4.6V-Flash", "BF16", 8),
    Case("GLM-4.6V-Flash", "FP8", 2),
    Case("GLM-4.6", "BF16", 16),
    Case("GLM-4.6", "FP8", 8),
)


def weighed(folder: Path) -> list[int]:
    """What vLLM says of each case."""
    asked = [
        {
            "folder": f"{MODELS_IN_CONTAINER}/{one.tier}",
            "tensor": one.tensor,
            "config": one.config(),
        }
        for one in CASES
    ]
    (folder / "cases.json").write_text(json.dumps(asked))
    (folder / SCRIPT.name).write_text(SCRIPT.read_text())
    folder.chmod(0o755)
    found = install()
    inside = Sandbox(found.root, models=found.models, shared={folder: "/cases"})
    argv = [PYTHON_IN_CONTAINER, f"/cases/{SCRIPT.name}", "/cases/cases.json"]
    done = subprocess.run(inside.command(argv), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[int] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_each_gpu_holds_what_the_catalogue_counts(tmp_path: Path) -> None:
    counted = {one: one.counted() for one in CASES}
    assert dict(zip(CASES, weighed(tmp_path), strict=True)) == counted
