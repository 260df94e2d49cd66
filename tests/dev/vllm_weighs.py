"""Run by the engine's own Python: how many bytes of weights vLLM holds on one GPU of many.

Usage: vllm_weighs.py FILE, a JSON list of objects with folder, tensor and config; prints a JSON
list of bytes. vLLM's own model class is built on the meta device, which takes no memory, as on the
first GPU of a tensor parallel group that does not exist.
"""

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.utils.torch_utils import set_default_torch_dtype

BESIDE = ("e_score_correction_bias", "_proj.input_scale", ".q_scale", ".k_scale", ".v_scale")
BESIDE += ("_zero_point",)
"""Parameters of some bytes for each layer, which the catalogue leaves out."""
SPLIT = ("_TP", "_EP", "_WORLD")
ALONE = ("_PP", "_DP", "_PCP", "_DCP")


def group(size: int) -> Any:
    """The first of `size` processes, as far as building a model asks."""
    processes = SimpleNamespace(size=lambda: size, rank=lambda: 0)
    return SimpleNamespace(
        world_size=size,
        rank_in_group=0,
        rank=0,
        local_rank=0,
        is_first_rank=True,
        is_last_rank=True,
        device_group=processes,
        cpu_group=processes,
    )


def configured(folder: str, tensor: int, config: dict[str, Any]) -> VllmConfig:
    """The configuration of an engine; groups of processes are as large as it asks."""
    found = EngineArgs(
        model=folder,
        hf_overrides=config,
        enforce_eager=True,
        max_model_len=2048,
        mm_encoder_tp_mode="data",
    ).create_engine_config()
    found.parallel_config.tensor_parallel_size = tensor
    for names, size in ((SPLIT, tensor), (ALONE, 1)):
        for name in names:
            setattr(parallel_state, name, group(size))
    return found


def weigh(folder: str, tensor: int, config: dict[str, Any]) -> int:
    """Bytes of all parameters on one GPU."""
    found = configured(folder, tensor, config)
    bfloat16, meta = set_default_torch_dtype(torch.bfloat16), torch.device("meta")
    with set_current_vllm_config(found), bfloat16, meta:
        model = initialize_model(vllm_config=found)
    return sum(
        one.numel() * one.element_size()
        for name, one in model.named_parameters()
        if not name.endswith(BESIDE)
    )


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    print(json.dumps([weigh(**case) for case in cases]))
