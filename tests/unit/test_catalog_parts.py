"""What each GPU holds of the weights, part by part."""

from __future__ import annotations

import pytest

from glm_operator import catalog
from glm_operator.catalog import Format, Sharding
from glm_operator.catalog.layers import ATTENTION, ROUTED
from glm_operator.catalog.parts import BIASES, NORMS, ROUTERS, VISION, Part, stage_parts
from glm_operator.catalog.sharding import stage_layers

FORMS = [Format("BF16"), Format("FP8"), Format("FP8", 128), Format("INT4"), Format("INT4", 32)]
SHARDINGS = [Sharding(1), Sharding(4), Sharding(16, 1, True), Sharding(2, 2), Sharding(1, 8)]


@pytest.mark.parametrize("preset", catalog.MODELS)
@pytest.mark.parametrize("form", FORMS, ids=Format.describe)
@pytest.mark.parametrize("sharding", SHARDINGS, ids=Sharding.describe)
def test_no_gpu_holds_less_than_its_share_or_more_than_all(
    preset: str, form: Format, sharding: Sharding
) -> None:
    model = catalog.get(preset)
    for stage in stage_layers(model.shapes.layers, sharding.pipeline):
        for part in stage_parts(model, form, sharding, stage):
            least = part.weight_bytes if part.whole else part.weight_bytes / sharding.tensor
            assert least <= part.gpu_bytes <= part.weight_bytes


@pytest.mark.parametrize("preset", catalog.MODELS)
def test_the_parts_of_a_model_hold_all_parameters(preset: str) -> None:
    model = catalog.get(preset)
    parts = stage_parts(model, Format("BF16"), Sharding(), range(model.shapes.layers))
    assert sum(part.parameters for part in parts) == catalog.parameters(model)


def test_a_matrix_that_groups_do_not_divide_stays_bf16() -> None:
    parts = _parts("GLM-4.6V", "INT4", Sharding())
    dense = {part.form: part.parameters for part in parts if part.name == "dense layers"}
    assert dense == {"INT4": 2 * 10_944 * 4_096, "BF16": 10_944 * 4_096}


def test_encoder_routers_and_norms_are_whole_on_every_gpu() -> None:
    parts = _parts("GLM-4.6V", "FP8", Sharding(8))
    assert [part.name for part in parts if part.whole] == [ROUTERS, NORMS, VISION]


def test_a_router_takes_four_bytes_for_each_parameter() -> None:
    # vLLM 0.32, models/glm4_moe.py: GateLinear with params_dtype float32, a ReplicatedLinear.
    (routers,) = (part for part in _parts("GLM-4.6V", "FP8", Sharding(8)) if part.name == ROUTERS)
    assert routers.gpu_bytes == 45 * 128 * 4_096 * 4


@pytest.mark.parametrize(
    ("preset", "tensor", "heads"),
    [
        ("GLM-4.6V", 8, 1),
        ("GLM-4.6V", 16, 1),
        ("GLM-4.6V-Flash", 1, 2),
        ("GLM-4.6V-Flash", 8, 1),
    ],
)
def test_a_gpu_holds_the_projection_of_at_least_one_key_value_head(
    preset: str, tensor: int, heads: int
) -> None:
    shapes = catalog.get(preset).shapes
    held = {part.name: part.gpu_bytes for part in _parts(preset, "BF16", Sharding(tensor))}
    cut = 2 * shapes.heads * shapes.head_dim // tensor
    kept = 2 * heads * shapes.head_dim
    assert held[ATTENTION] == 2 * shapes.layers * shapes.hidden * (cut + kept)
    assert held[BIASES] == 2 * shapes.layers * (cut // 2 + kept)


@pytest.mark.parametrize(("expert", "pieces"), [(False, 1), (True, 8)])
def test_scales_of_whole_outputs_are_cut_with_the_experts_alone(expert: bool, pieces: int) -> None:
    parts = _parts("GLM-4.6V", "FP8", Sharding(8, 1, expert))
    (routed,) = (part for part in parts if part.name == ROUTED)
    of_inputs = 45 * 128 * 4 * 4_096
    weights, scales = routed.weight_bytes - of_inputs, of_inputs // pieces
    assert routed.gpu_bytes == weights // 8 + scales


def test_blocks_of_scales_are_cut_with_their_matrix() -> None:
    (found,) = (
        part
        for part in stage_parts(catalog.get("GLM-4.6"), Format("FP8", 128), Sharding(4), range(92))
        if part.name == ROUTED
    )
    assert found.gpu_bytes == found.weight_bytes // 4


def _parts(preset: str, kind: str, sharding: Sharding) -> tuple[Part, ...]:
    model = catalog.get(preset)
    return stage_parts(model, Format(kind), sharding, range(model.shapes.layers))
