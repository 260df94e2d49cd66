"""What glm-weights tells of a checkpoint, in the form that the operator reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoint_facts import CONFIGS, FOLDER, made_facts, stored_facts
from glm_dev.hub import configs
from glm_dev.hub.checkpoints import INDEX, make_checkpoint
from glm_operator.api.reasons import CATALOGUE
from glm_operator.catalog.models import GLM_46V, GLM_46V_FLASH
from glm_serving.weights import reasons
from glm_serving.weights.errors import WeightsError
from glm_serving.weights.facts import checkpoint_facts, parse_config
from glm_serving.weights.folder import Folder
from glm_serving.weights.inspect import read_checkpoint
from glm_serving.weights.modules import count_modules
from glm_serving.weights.quantization import describe
from glm_serving.weights.safetensors import Tensor

LARGEST_FACTS = 3000
"""Of the 4000 bytes that a container may leave; the rest is for the frame and a message."""
PARAMETERS_46V = 107_710_927_360
ROUTER_BIASES = 45 * 128
PARAMETERS_FLASH = 10_292_777_472


def small(tmp_path: Path, config: dict[str, Any] | None = None) -> Path:
    """A tiny checkpoint of several files of weights."""
    wanted = config or configs.tiny(configs.flagship())
    return make_checkpoint(tmp_path / "checkpoint", wanted, shard_bytes=400_000)


def failure(path: Path) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        read_checkpoint(Folder(path), "")
    return caught.value


@pytest.mark.parametrize("name", CONFIGS)
def test_the_fixtures_are_what_the_code_says_of_the_real_dimensions(name: str) -> None:
    assert made_facts(name) == stored_facts(name), f"renew {FOLDER} with checkpoint_facts --write"


@pytest.mark.parametrize("name", CONFIGS)
def test_facts_leave_room_in_the_termination_message(name: str) -> None:
    assert len(json.dumps(stored_facts(name), separators=(",", ":"))) < LARGEST_FACTS


def test_the_bytes_are_those_of_the_models_built_on_the_meta_device() -> None:
    router_biases = 4 * ROUTER_BIASES
    assert stored_facts("glm-4.6v")["weightBytes"] == 2 * PARAMETERS_46V + router_biases
    assert stored_facts("glm-4.6v-flash")["weightBytes"] == 2 * PARAMETERS_FLASH


@pytest.mark.parametrize(
    ("name", "model"), [("glm-4.6v", GLM_46V), ("glm-4.6v-flash", GLM_46V_FLASH)]
)
def test_dimensions_are_those_of_the_operators_catalogue(name: str, model: Any) -> None:
    text = stored_facts(name)["text"]
    told = (text["hidden_size"], text["num_hidden_layers"], text["num_attention_heads"])
    assert told == (model.shapes.hidden, model.shapes.layers, model.shapes.heads)
    widths = (text["num_key_value_heads"], text["head_dim"], text["intermediate_size"])
    assert widths == (model.shapes.kv_heads, model.shapes.head_dim, model.shapes.dense_width)


def test_every_reason_is_in_the_operators_catalogue() -> None:
    assert set(reasons.ALL) <= set(CATALOGUE)


FLOAT = {"num_bits": 8, "type": "float", "strategy": "channel"}
INTEGER = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
BLOCKS = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}


def compressed(weights: dict[str, Any], inputs: dict[str, Any] | None) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


@pytest.mark.parametrize(
    ("section", "kind", "group", "activations"),
    [
        (compressed(FLOAT, {"dynamic": True}), "FP8", 0, "dynamic"),
        (compressed(FLOAT, {"dynamic": False}), "FP8", 0, "static"),
        (compressed(BLOCKS, {"dynamic": True}), "FP8", 128, "dynamic"),
        (compressed(INTEGER, None), "INT4", 32, "none"),
        (compressed({"num_bits": 4, "type": "float", "group_size": 16}, None), "other", 16, "none"),
        ({"quant_method": "fp8", "activation_scheme": "static"}, "FP8", 0, "static"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8", 128, "dynamic"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "INT4", 128, "none"),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "INT4", 64, "none"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "INT4", 0, "none"),
        ({"quant_method": "gptq", "bits": 8, "group_size": 32}, "other", 32, "none"),
        ({"quant_method": "something-new"}, "other", 0, "none"),
    ],
)
def test_quantisation_has_one_form_for_all_methods(
    section: dict[str, Any], kind: str, group: int, activations: str
) -> None:
    told = describe(section)
    assert (told["kind"], told["groupSize"], told["activations"]) == (kind, group, activations)


@pytest.mark.parametrize("key", ["ignore", "modules_to_not_convert", "ignored_layers"])
def test_layers_that_are_left_as_they_are_are_counted_and_the_first_are_named(key: str) -> None:
    told = describe({"quant_method": "fp8", key: [f"layer.{n}" for n in range(40)]})
    assert told["ignored"] == 40
    assert told["ignore"] == [f"layer.{n}" for n in range(16)]


def matrix(*shape: int) -> Tensor:
    return Tensor("BF16", shape, 0, 0)


def test_layers_behind_the_last_are_for_prediction_and_not_counted() -> None:
    tensors = {f"model.layers.{n}.self_attn.q_proj.weight": matrix(4, 4) for n in range(5)}
    assert count_modules(tensors, 4)["attention"] == [4, 0]


def test_experts_in_one_tensor_count_as_many() -> None:
    tensors = {
        "model.layers.1.mlp.experts.gate_up_proj": matrix(8, 4, 4),
        "model.layers.1.mlp.experts.down_proj": matrix(8, 4, 4),
    }
    assert count_modules(tensors, 2)["experts"] == [16, 0]


def test_a_model_without_a_section_for_its_text_is_read_too() -> None:
    config = {"architectures": ["Glm4MoeForCausalLM"], "hidden_size": 8, "num_hidden_layers": 2}
    told = checkpoint_facts(config, {}, {"config.json": 10})
    assert told["text"] == {"hidden_size": 8, "num_hidden_layers": 2}
    assert told["vision"] is None


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "{}",
        '{"architectures": []}',
        '{"architectures": ["A"], "text_config": 3}',
        '{"architectures": ["A"], "hidden_size": "wide"}',
        '{"architectures": ["A"], "quantization_config": {"quant_method": "compressed-tensors"}}',
        '{"architectures": ["A"], "quantization_config": {"quant_method": "awq", "bits": "x"}}',
    ],
)
def test_a_configuration_that_cannot_be_understood_is_named(text: str) -> None:
    with pytest.raises(WeightsError, match=r"config\.json cannot be understood") as caught:
        checkpoint_facts(parse_config(text.encode()), {}, {})
    assert caught.value.reason == reasons.CHECKPOINT_UNREADABLE


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer.json", "model-00002-of-00006.safetensors"]
)
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = small(tmp_path)
    (folder / file).unlink()
    found = failure(folder)
    assert (found.reason, found.file) == (reasons.FILE_MISSING, file)
    assert file in str(found)


def test_a_cut_file_of_weights_is_named_with_both_sizes(tmp_path: Path) -> None:
    folder = small(tmp_path)
    shard = sorted(folder.glob("*.safetensors"))[1]
    whole = shard.stat().st_size
    with shard.open("r+b") as file:
        file.truncate(whole - 1)
    found = failure(folder)
    assert (found.reason, found.file) == (reasons.FILE_DAMAGED, shard.name)
    assert f"it has {whole - 1} bytes and its header promises {whole}" in str(found)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02" + bytes(7) + b"[]"])
def test_a_file_that_is_no_safetensors_is_named(tmp_path: Path, content: bytes) -> None:
    folder = small(tmp_path)
    shard = sorted(folder.glob("*.safetensors"))[0]
    shard.write_bytes(content)
    assert (failure(folder).reason, failure(folder).file) == (reasons.FILE_DAMAGED, shard.name)


def test_a_tensor_that_its_file_does_not_hold_is_told(tmp_path: Path) -> None:
    folder = small(tmp_path)
    table = json.loads((folder / INDEX).read_text())
    first = sorted(folder.glob("*.safetensors"))[0].name
    table["weight_map"]["lm_head.weight"] = first
    (folder / INDEX).write_text(json.dumps(table))
    assert "the index says that it holds lm_head.weight" in str(failure(folder))


def test_an_index_without_its_table_is_named(tmp_path: Path) -> None:
    folder = small(tmp_path)
    (folder / INDEX).write_text("{}")
    assert (failure(folder).reason, failure(folder).file) == (reasons.CHECKPOINT_UNREADABLE, INDEX)


def test_a_checkpoint_of_one_file_needs_no_index(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, configs.tiny(configs.flash()))
    (folder / INDEX).unlink()
    assert read_checkpoint(Folder(folder), "")["shards"] == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no folder") as caught:
        Folder(tmp_path / "absent")
    assert caught.value.reason == reasons.CHECKPOINT_NOT_FOUND
