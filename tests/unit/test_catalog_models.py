"""The catalogue's figures against the research they come from: vllm-glm, sections 1.2 to 2.6."""

from __future__ import annotations

import pytest

from glm_operator import catalog
from glm_operator.api import rules
from glm_operator.api.enums import Quantization
from glm_operator.api.reference import fields
from glm_operator.api.schema import structural
from glm_operator.api.v1alpha1 import GLMDeploymentSpec
from glm_operator.catalog import memory
from glm_operator.manifests import arguments

FLAGSHIP = catalog.get("GLM-4.6V")
FLASH = catalog.get("GLM-4.6V-Flash")
TEXT = catalog.get("GLM-4.6")
GIB = 1 << 30

TOTALS = [(FLAGSHIP, 107_710_927_360), (FLASH, 10_292_777_472), (TEXT, 352_797_814_784)]
"""Exact: the models were built on the meta device."""

WEIGHTS_GB = [
    (FLAGSHIP, "BF16", 215.4),
    (FLAGSHIP, "FP8", 110.0),
    (FLAGSHIP, "INT4", 58.7),
    (FLASH, "BF16", 20.59),
    (FLASH, "FP8", 12.43),
    (FLASH, "INT4", 8.48),
    (TEXT, "BF16", 705.6),
]

INT4_GROUP_32_GB = [(FLAGSHIP, 63.6), (FLASH, 8.86)]

GPU_WEIGHTS_GIB = [
    (FLAGSHIP, "BF16", {1: 200.6, 2: 101.1, 4: 51.4, 8: 26.5, 16: 14.0}),
    (FLAGSHIP, "FP8", {1: 102.4, 2: 52.0, 4: 26.8, 8: 14.2}),
    (FLAGSHIP, "INT4", {1: 54.7, 2: 28.1, 4: 14.9}),
    (FLASH, "BF16", {1: 19.2, 2: 10.4, 4: 6.0, 8: 3.9}),
    (FLASH, "FP8", {1: 11.6, 2: 6.6}),
]

KV_BYTES = [
    (FLAGSHIP, {1: 188_416, 2: 94_208, 4: 47_104, 8: 23_552, 16: 23_552}),
    (FLASH, {1: 40_960, 2: 20_480, 4: 20_480, 8: 20_480, 16: 20_480}),
    (TEXT, {1: 376_832, 2: 188_416, 4: 94_208, 8: 47_104, 16: 47_104}),
]

LEGAL = [(model, (1, 2, 4, 8, 16, 32)) for model in (FLAGSHIP, FLASH, TEXT)]


@pytest.mark.parametrize(("model", "total"), TOTALS)
def test_the_parts_add_up_to_the_exact_number_of_parameters(
    model: catalog.Model, total: int
) -> None:
    assert model.parameters.total == total


@pytest.mark.parametrize(("model", "quantization", "gigabytes"), WEIGHTS_GB)
def test_weights_are_as_published(
    model: catalog.Model, quantization: str, gigabytes: float
) -> None:
    assert catalog.weight_bytes(model, quantization) / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(("model", "gigabytes"), INT4_GROUP_32_GB)
def test_smaller_groups_take_more_scales(model: catalog.Model, gigabytes: float) -> None:
    assert catalog.weight_bytes(model, "INT4", 32) / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("model", "quantization", "tensor", "gibibytes"),
    [
        (model, quantization, tensor, gibibytes)
        for model, quantization, by_tensor in GPU_WEIGHTS_GIB
        for tensor, gibibytes in by_tensor.items()
    ],
)
def test_each_gpu_holds_its_share_and_the_whole_encoder(
    model: catalog.Model, quantization: str, tensor: int, gibibytes: float
) -> None:
    found = catalog.gpu_weight_bytes(model, quantization, tensor) / GIB
    assert found == pytest.approx(gibibytes, rel=0.005, abs=0.05)


@pytest.mark.parametrize(
    ("model", "tensor", "size"),
    [(model, tensor, size) for model, sizes in KV_BYTES for tensor, size in sizes.items()],
)
def test_the_kv_cache_of_a_token_is_exact(model: catalog.Model, tensor: int, size: int) -> None:
    assert catalog.kv_bytes_per_token(model, tensor) == size
    assert catalog.kv_bytes_per_token(model, tensor, fp8=True) == size // 2


@pytest.mark.parametrize(("model", "sizes"), LEGAL)
def test_legal_sizes_follow_from_the_shapes(model: catalog.Model, sizes: tuple[int, ...]) -> None:
    assert catalog.legal_tensor(model) == sizes


@pytest.mark.parametrize(
    ("model", "tensor", "reason"),
    [
        (FLAGSHIP, 5, "96 attention heads do not divide by 5"),
        (FLAGSHIP, 12, "8 key-value heads can be neither divided nor replicated over 12 GPUs"),
        (FLAGSHIP, 24, "a layer 1408 wide does not divide by 24"),
        (FLAGSHIP, 64, "96 attention heads do not divide by 64"),
        (FLASH, 3, "32 attention heads do not divide by 3"),
        (TEXT, 24, "a vocabulary of 151552 does not divide by 24"),
    ],
)
def test_an_illegal_size_says_why(model: catalog.Model, tensor: int, reason: str) -> None:
    assert catalog.head_refusal(model, tensor) == reason


def test_the_crd_s_rule_allows_what_the_shapes_allow() -> None:
    legal = {preset: catalog.legal_tensor(model) for preset, model in catalog.MODELS.items()}
    assert legal == rules.LEGAL_TENSOR


@pytest.mark.parametrize("quantization", ["BF16", "FP8"])
def test_the_planner_may_choose_every_legal_size(quantization: str) -> None:
    assert catalog.automatic_tensor(FLAGSHIP, quantization) == catalog.legal_tensor(FLAGSHIP)


@pytest.mark.parametrize(("model", "sizes"), [(FLAGSHIP, (1,)), (FLASH, (1,)), (TEXT, (1, 2, 4))])
def test_the_planner_splits_no_int4_groups(model: catalog.Model, sizes: tuple[int, ...]) -> None:
    assert catalog.automatic_tensor(model, "INT4") == sizes


@pytest.mark.parametrize(
    ("width_over", "tensor", "refused"), [(128, 2, True), (64, 2, False), (32, 4, False)]
)
def test_smaller_groups_may_be_split(width_over: int, tensor: int, refused: bool) -> None:
    assert bool(catalog.group_refusal(FLASH, "INT4", tensor, width_over)) is refused


def test_only_flash_is_no_mixture_of_experts() -> None:
    dense = [model.preset for model in catalog.MODELS.values() if not model.is_mixture]
    assert dense == ["GLM-4.6V-Flash"]


@pytest.mark.parametrize("model", catalog.MODELS.values(), ids=lambda model: model.preset)
def test_a_model_sees_where_it_has_an_encoder(model: catalog.Model) -> None:
    assert model.sees == (model.parameters.vision > 0)


def test_the_object_s_presets_are_the_catalogue_s_each_in_its_tier() -> None:
    presets = {
        field.path: field.schema["enum"]
        for field in fields(structural(GLMDeploymentSpec), "spec")
        if field.path.endswith("model.preset")
    }
    known = {
        f"spec.tiers.{model.tier}.model.preset": [model.preset] for model in catalog.MODELS.values()
    }
    assert presets == known


def test_served_names_are_those_that_aliases_may_not_take() -> None:
    assert {model.served_name for model in catalog.MODELS.values()} == set(rules.SERVED_NAMES)


def test_every_quantization_of_the_object_has_its_own_size() -> None:
    sizes = [catalog.weight_bytes(FLASH, choice.value) for choice in Quantization]
    assert sorted(sizes, reverse=True) == sizes
    assert len(set(sizes)) == 3


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(catalog.UnknownPreset, match="GLM-5"):
        catalog.get("GLM-5")


@pytest.mark.parametrize(
    ("model", "quantization", "tensor", "gpu_gib", "kv_gib"),
    [
        (FLAGSHIP, "FP8", 2, 79.2, 14.8),
        (FLAGSHIP, "FP8", 4, 79.2, 40.0),
        (FLAGSHIP, "BF16", 4, 79.2, 15.4),
        (FLAGSHIP, "FP8", 1, 140.4, 20.7),
        (FLASH, "BF16", 1, 22.0, -4.9),
    ],
)
def test_what_is_left_for_the_kv_cache_is_as_worked_out(
    model: catalog.Model, quantization: str, tensor: int, gpu_gib: float, kv_gib: float
) -> None:
    left = catalog.kv_cache_bytes(model, quantization, tensor, int(gpu_gib * GIB)) / GIB
    assert left == pytest.approx(kv_gib, abs=0.2)


def test_the_engine_is_told_the_share_of_memory_that_the_plan_counts_on() -> None:
    assert float(arguments.GPU_MEMORY_UTILIZATION) * 100 == memory.UTILIZATION_PERCENT


@pytest.mark.parametrize("model", catalog.MODELS.values(), ids=lambda model: model.preset)
def test_one_image_fits_into_one_step_of_the_engine(model: catalog.Model) -> None:
    assert model.image_tokens <= arguments.MAX_BATCHED_TOKENS
