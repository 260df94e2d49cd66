"""Whatever a checkpoint holds: it is told, or refused with a sentence; and the answer is short."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_dev.hub.checkpoints import header
from glm_dev.hub.tensors import Spec
from glm_serving.weights import facts
from glm_serving.weights.errors import WeightsError
from glm_serving.weights.files import parse_index
from glm_serving.weights.result import MAX_BYTES, Result
from glm_serving.weights.safetensors import PREFIX_BYTES, Header, read_header

Told = TypeVar("Told")
NAMES = st.sampled_from(
    [
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.experts.gate_up_proj",
        "model.layers.1.mlp.experts.0.up_proj.weight",
        "model.visual.blocks.0.attn.qkv.weight",
        "lm_head.weight",
    ]
)
SPECS = st.builds(
    Spec,
    NAMES,
    st.sampled_from(["BF16", "F8_E4M3", "F32"]),
    st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=200)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


def section(*keys: str) -> st.SearchStrategy[Any]:
    """An object with some of these keys and any values, or any value instead."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, ANYTHING)) | ANYTHING


QUANTIZATION = section(
    *("bits", "group_size", "w_bit", "weight_block_size", "activation_scheme", "ignore"),
    "modules_to_not_convert",
).flatmap(
    lambda rest: st.builds(
        lambda method, groups: {
            **(rest if isinstance(rest, dict) else {}),
            "quant_method": method,
            "config_groups": groups,
        },
        st.sampled_from(["compressed-tensors", "fp8", "awq", "gptq", "x" * 500]),
        st.dictionaries(st.text(max_size=3), section("weights", "input_activations"), max_size=2),
    )
)
CONFIGS = st.fixed_dictionaries(
    {"architectures": st.lists(st.text(max_size=500), min_size=1, max_size=2)},
    optional={
        "text_config": section(*facts.TEXT_KEYS),
        "vision_config": section(*facts.VISION_KEYS),
        "quantization_config": QUANTIZATION | ANYTHING,
    },
)


def read(content: bytes, size: int | None = None) -> Header:
    length = len(content) if size is None else size
    return read_header("a.safetensors", length, lambda at, n: content[at : at + n])


def refused_or(work: Callable[[], Told], words: str) -> Told | None:
    """What it tells; None where it refuses with these words, which must be in the sentence."""
    try:
        return work()
    except WeightsError as error:
        return None if words in str(error) else pytest.fail(str(error))


def whole(specs: list[Spec]) -> bytes:
    unique = {spec.name: spec for spec in specs}.values()
    return header(unique) + bytes(sum(spec.bytes for spec in unique))


@given(st.lists(SPECS, max_size=4))
def test_a_header_is_read_as_it_was_written(specs: list[Spec]) -> None:
    unique = {spec.name: spec for spec in specs}
    found = read(whole(specs))
    assert {name: tensor.shape for name, tensor in found.tensors.items()} == {
        name: spec.shape for name, spec in unique.items()
    }
    assert sum(tensor.bytes for tensor in found.tensors.values()) == sum(
        spec.bytes for spec in unique.values()
    )


@given(st.lists(SPECS, max_size=4), st.data())
def test_a_file_that_is_cut_anywhere_is_damaged(specs: list[Spec], data: st.DataObject) -> None:
    content = whole(specs)
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(WeightsError, match="is damaged"):
        read(content[:cut])


@given(st.binary(max_size=64) | ANYTHING.map(lambda value: json.dumps(value).encode()))
def test_any_header_is_read_or_damaged(text: bytes) -> None:
    content = len(text).to_bytes(PREFIX_BYTES, "little") + text
    found = refused_or(lambda: read(content), "is damaged")
    assert found is None or found.file_bytes == len(content)


@given(ANYTHING)
def test_any_index_is_read_or_refused(value: Any) -> None:
    text = json.dumps({"weight_map": value}).encode()
    table = refused_or(lambda: parse_index(text), "cannot be understood")
    assert table is None or all(isinstance(file, str) for file in table.values())


@given(CONFIGS, st.lists(SPECS, max_size=4))
def test_any_configuration_is_told_shortly_or_refused(
    config: dict[str, Any], specs: list[Spec]
) -> None:
    text = json.dumps(config).encode()
    headers = {"a": read(whole(specs))}
    told = refused_or(
        lambda: facts.checkpoint_facts(facts.parse_config(text), headers, {"a": 1}, "c" * 40),
        "config.json cannot be understood: ",
    )
    answer = Result(facts=told or {}).to_text()
    assert len(answer.encode()) <= MAX_BYTES
    assert json.loads(answer)["outcome"] == "Done"
