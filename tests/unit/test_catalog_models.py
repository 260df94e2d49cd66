"""The catalogue's figures against the research they come from: vllm-glm, sections 1.2 to 2.6."""

from __future__ import annotations

import pytest

from glm_operator import catalog
from glm_operator.api import gateway_rules, names, rules
from glm_operator.api.enums import Quantization
from glm_operator.api.reference import fields
from glm_operator.api.schema import structural
from glm_operator.api.v1alpha1 import GLMDeploymentSpec
from glm_operator.catalog import Format, Sharding, layers, memory
from glm_operator.catalog.parts import vision_bytes
from glm_operator.catalog.sharding import stage_layers
from glm_operator.manifests import arguments

FLAGSHIP = catalog.get("GLM-4.6V")
FORMATS = [one for one in Quantization if one is not Quantization.AUTO]
FLASH = catalog.get("GLM-4.6V-Flash")
TEXT = catalog.get("GLM-4.6")
GIB = 1 << 30
BF16, FP8, INT4 = Format("BF16"), Format("FP8"), Format("INT4")
FP8_BLOCKS = Format("FP8", 128)

TOTALS = {
    "GLM-4.6V": 107_710_927_360,
    "GLM-4.5V": 107_710_927_360,
    "GLM-4.6V-Flash": 10_292_777_472,
    "GLM-4.1V-9B-Thinking": 10_292_777_472,
    "GLM-4.6": 352_797_814_784,
}
"""Exact: the models were built on the meta device; their correction biases are left out."""

WEIGHTS_GB = [
    (FLAGSHIP, BF16, 215.4),
    (FLAGSHIP, FP8, 110.0),
    (FLAGSHIP, INT4, 58.7),
    (FLAGSHIP, Format("INT4", 32), 63.6),
    (FLASH, BF16, 20.59),
    (FLASH, FP8, 12.43),
    (FLASH, INT4, 8.48),
    (FLASH, Format("INT4", 32), 8.86),
    (TEXT, BF16, 705.6),
]

GPU_WEIGHTS_GIB = [
    (FLAGSHIP, BF16, {1: 200.7, 2: 101.2, 4: 51.4, 8: 26.6, 16: 14.2}),
    (FLAGSHIP, FP8, {1: 102.5, 2: 52.1, 4: 27.0, 8: 14.4}),
    (FLAGSHIP, INT4, {1: 54.8, 2: 28.2, 4: 15.0}),
    (FLASH, BF16, {1: 19.2, 2: 10.4, 4: 6.1, 8: 3.9}),
    (FLASH, FP8, {1: 11.6, 2: 6.6}),
    (FLASH, INT4, {1: 7.9}),
]

KV_BYTES = [
    (FLAGSHIP, {1: 188_416, 2: 94_208, 4: 47_104, 8: 23_552, 16: 23_552}),
    (FLASH, {1: 40_960, 2: 20_480, 4: 20_480, 8: 20_480, 16: 20_480}),
    (TEXT, {1: 376_832, 2: 188_416, 4: 94_208, 8: 47_104, 16: 47_104}),
]

GROUPS = [
    (FLAGSHIP, FP8, (1, 2, 4, 8)),
    (FLAGSHIP, FP8_BLOCKS, (1,)),
    (FLAGSHIP, INT4, (1,)),
    (FLAGSHIP, Format("INT4", 64), (1,)),
    (FLAGSHIP, Format("INT4", 32), (1, 2)),
    (FLASH, FP8_BLOCKS, (1,)),
    (FLASH, INT4, (1,)),
    (FLASH, Format("INT4", 64), (1, 2)),
    (FLASH, Format("INT4", 32), (1, 2, 4)),
    (TEXT, FP8_BLOCKS, (1, 2, 4)),
    (TEXT, INT4, (1, 2, 4)),
]
"""Tensor parallel sizes that keep every quantised matrix's groups whole, by hand from widths."""

EVERY_MODEL = pytest.mark.parametrize(
    "model", catalog.MODELS.values(), ids=lambda model: model.preset
)


def test_the_parts_add_up_to_the_exact_number_of_parameters() -> None:
    found = {preset: catalog.parameters(model) for preset, model in catalog.MODELS.items()}
    assert found == TOTALS


@pytest.mark.parametrize(("model", "form", "gigabytes"), WEIGHTS_GB)
def test_weights_are_as_published(model: catalog.Model, form: Format, gigabytes: float) -> None:
    assert catalog.weight_bytes(model, form) / 1e9 == pytest.approx(gigabytes, rel=0.005)


@EVERY_MODEL
@pytest.mark.parametrize("form", [BF16, FP8, FP8_BLOCKS, INT4], ids=Format.describe)
def test_one_gpu_holds_what_is_stored_with_its_routers_in_fp32(
    model: catalog.Model, form: Format
) -> None:
    whole = sum(catalog.part_bytes(model, form).values())
    routers = sum(layers.router(model.shapes, layer) for layer in range(model.shapes.layers))
    assert catalog.stage_weight_bytes(model, form, Sharding()) == (whole + 2 * routers,)


@EVERY_MODEL
def test_bf16_takes_two_bytes_for_each_parameter(model: catalog.Model) -> None:
    assert catalog.weight_bytes(model, BF16) == 2 * catalog.parameters(model)


@pytest.mark.parametrize(
    ("model", "form", "tensor", "gibibytes"),
    [
        (model, form, tensor, gibibytes)
        for model, form, by_tensor in GPU_WEIGHTS_GIB
        for tensor, gibibytes in by_tensor.items()
    ],
)
def test_each_gpu_holds_its_share_and_the_whole_encoder(
    model: catalog.Model, form: Format, tensor: int, gibibytes: float
) -> None:
    (found,) = catalog.stage_weight_bytes(model, form, Sharding(tensor))
    assert found / GIB == pytest.approx(gibibytes, rel=0.005, abs=0.05)


def test_the_first_stage_holds_the_embeddings_and_the_last_the_head() -> None:
    first, *middle, last = catalog.stage_weight_bytes(FLASH, BF16, Sharding(pipeline=4))
    table = 2 * 151_552 * 4096
    assert {first - one for one in middle} == {table}
    assert last - first == 2 * 4096


def test_every_stage_holds_the_whole_encoder() -> None:
    whole, staged = Sharding(), Sharding(pipeline=4)
    flat = sum(catalog.stage_weight_bytes(FLASH, BF16, whole))
    copies = sum(catalog.stage_weight_bytes(FLASH, BF16, staged)) - flat
    assert copies == 3 * vision_bytes(FLASH)


@pytest.mark.parametrize(
    ("layers", "pipeline", "counts"),
    [
        # By hand from vLLM's get_pp_indices.
        (46, 1, [46]),
        (46, 2, [23, 23]),
        (46, 4, [11, 12, 12, 11]),
        (40, 8, [5] * 8),
        (92, 8, [11, 11, 11, 12, 12, 12, 12, 11]),
        (5, 2, [3, 2]),
    ],
)
def test_stages_get_their_layers_as_vllm_deals_them_out(
    layers: int, pipeline: int, counts: list[int]
) -> None:
    stages = stage_layers(layers, pipeline)
    assert [len(stage) for stage in stages] == counts
    assert [layer for stage in stages for layer in stage] == list(range(layers))


@pytest.mark.parametrize(
    ("model", "tensor", "size"),
    [(model, tensor, size) for model, sizes in KV_BYTES for tensor, size in sizes.items()],
)
def test_the_kv_cache_of_a_token_is_exact(model: catalog.Model, tensor: int, size: int) -> None:
    assert catalog.kv_bytes_per_token(model, tensor) == size
    assert catalog.kv_bytes_per_token(model, tensor, fp8=True) == size // 2


@EVERY_MODEL
def test_legal_sizes_follow_from_the_shapes(model: catalog.Model) -> None:
    assert catalog.legal_tensor(model) == (1, 2, 4, 8, 16, 32)


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


@pytest.mark.parametrize(
    ("sharding", "reason"),
    [
        (Sharding(2, 1, True), "GLM-4.6V-Flash is dense and has no experts to spread"),
        (Sharding(1, 64), "40 layers cannot make 64 stages"),
        (Sharding(3, 2), "32 attention heads do not divide by 3"),
        (Sharding(2, 2), ""),
    ],
)
def test_an_impossible_sharding_says_why(sharding: Sharding, reason: str) -> None:
    assert catalog.refusal(FLASH, sharding) == reason


@pytest.mark.parametrize(("model", "form", "sizes"), GROUPS)
def test_groups_are_tested_on_every_quantised_matrix(
    model: catalog.Model, form: Format, sizes: tuple[int, ...]
) -> None:
    whole = [
        size for size in (1, 2, 4, 8) if not catalog.group_refusal(model, form, Sharding(size))
    ]
    assert tuple(whole) == sizes


def test_expert_parallelism_keeps_only_routed_experts_whole() -> None:
    sliced = catalog.group_refusal(FLAGSHIP, INT4, Sharding(2))
    spread = catalog.group_refusal(FLAGSHIP, INT4, Sharding(2, expert=True))
    assert "down projection of the routed experts, 1408 wide" in sliced
    assert "down projection of the shared experts, 1408 wide" in spread


def test_stages_cut_no_groups() -> None:
    assert catalog.group_refusal(FLAGSHIP, INT4, Sharding(1, 4)) == ""


def test_a_matrix_that_groups_do_not_divide_stays_bf16() -> None:
    dense = catalog.part_bytes(FLAGSHIP, INT4)["dense layers"]
    gate_and_up, down = 2 * 4096 * 10_944, 10_944 * 4096
    assert dense == gate_and_up // 2 + gate_and_up // 128 * 2 + 2 * down


def test_the_crd_s_rules_allow_what_the_shapes_allow() -> None:
    for model in catalog.MODELS.values():
        assert catalog.legal_tensor(model) == rules.LEGAL_TENSOR
    limits = {preset: model.max_context_tokens for preset, model in catalog.MODELS.items()}
    assert limits == rules.CONTEXT_LIMITS


def test_only_the_models_of_flash_are_no_mixture_of_experts() -> None:
    dense = [model for model in catalog.MODELS.values() if not model.is_mixture]
    assert dense == list(catalog.of_tier(names.FLASH))


def test_only_the_text_model_takes_no_images() -> None:
    blind = [model.preset for model in catalog.MODELS.values() if not model.sees]
    assert blind == ["GLM-4.6"]
    assert [bool(model.image_tokens) for model in catalog.MODELS.values()] == [
        model.sees for model in catalog.MODELS.values()
    ]


def test_the_object_s_presets_are_the_catalogue_s_each_in_its_tier() -> None:
    presets = {
        field.path: field.schema["enum"]
        for field in fields(structural(GLMDeploymentSpec), "spec")
        if field.path.endswith("model.preset")
    }
    assert presets == {
        f"spec.tiers.{tier}.model.preset": [model.preset for model in catalog.of_tier(tier)]
        for tier in names.TIERS
    }


def test_a_model_is_served_under_its_preset_in_small_letters() -> None:
    # The rule `alias-shadows-preset` counts on it.
    for model in catalog.MODELS.values():
        assert model.served_name == model.preset.lower()
    assert set(gateway_rules.SERVED_NAMES) <= {
        model.served_name for model in catalog.MODELS.values()
    }


def test_every_quantization_of_the_object_has_its_own_size() -> None:
    sizes = [catalog.weight_bytes(FLASH, Format(choice.value)) for choice in FORMATS]
    assert sorted(sizes, reverse=True) == sizes
    assert len(set(sizes)) == 3


def test_the_checkpoint_of_a_model_with_mtp_is_larger_than_what_is_loaded() -> None:
    # Published as 357 B with its layer for multi-token prediction.
    on_disk = catalog.checkpoint_bytes(TEXT, BF16) / 2e9
    assert on_disk == pytest.approx(356.8, rel=0.002)
    assert catalog.checkpoint_bytes(FLASH, BF16) == catalog.weight_bytes(FLASH, BF16)


def test_an_unknown_preset_is_named() -> None:
    with pytest.raises(catalog.UnknownPreset, match="GLM-5"):
        catalog.get("GLM-5")


@pytest.mark.parametrize(
    ("model", "form", "tensor", "gpu_gib", "kv_gib"),
    [
        (FLAGSHIP, FP8, 2, 79.2, 14.8),
        (FLAGSHIP, FP8, 4, 79.2, 40.0),
        (FLAGSHIP, BF16, 4, 79.2, 15.4),
        (FLAGSHIP, FP8, 1, 140.4, 20.7),
        (FLASH, BF16, 1, 22.0, -4.9),
    ],
)
def test_what_is_left_for_the_kv_cache_is_as_worked_out(
    model: catalog.Model, form: Format, tensor: int, gpu_gib: float, kv_gib: float
) -> None:
    found = catalog.budget(model, form, Sharding(tensor), int(gpu_gib * GIB), fp8_kv=False)
    assert found.cache / GIB == pytest.approx(kv_gib, abs=0.2)


def test_the_tightest_stage_decides_how_much_a_pipeline_holds() -> None:
    budget = catalog.budget(FLAGSHIP, INT4, Sharding(1, 4), 40 * GIB, fp8_kv=False)
    weights = catalog.stage_weight_bytes(FLAGSHIP, INT4, Sharding(1, 4))
    # The second and third stage have a layer more than the others, and with it more KV cache.
    assert budget.weights == weights[1] < weights[3]
    assert budget.per_token == 12 * 2 * 8 * 128 * 2


def test_videos_double_what_is_kept_free() -> None:
    images, videos = memory.reserve_bytes(0), memory.reserve_bytes(1)
    assert videos == 2 * images


def test_the_engine_is_told_the_share_of_memory_that_the_plan_counts_on() -> None:
    assert float(arguments.GPU_MEMORY_UTILIZATION) * 100 == memory.UTILIZATION_PERCENT


@EVERY_MODEL
def test_one_image_fits_into_one_step_of_the_engine(model: catalog.Model) -> None:
    assert model.image_tokens <= arguments.MAX_BATCHED_TOKENS


@pytest.mark.parametrize(("gpus", "cpu", "memory_quantity"), [(1, "6", "36Gi"), (8, "20", "92Gi")])
def test_host_needs_grow_with_the_gpus(gpus: int, cpu: str, memory_quantity: str) -> None:
    assert (FLAGSHIP.host.cpu(gpus), FLAGSHIP.host.memory(gpus)) == (cpu, memory_quantity)
