"""The weights by part add up to what the planner counts with."""

from __future__ import annotations

import pytest

from glm_operator import catalog
from glm_operator.catalog import Format, Sharding
from glm_operator.catalog.parts import VISION, stage_parts
from glm_operator.catalog.sharding import stage_layers

FORMS = [Format("BF16"), Format("FP8"), Format("FP8", 128), Format("INT4"), Format("INT4", 32)]
SHARDINGS = [Sharding(1), Sharding(4), Sharding(2, 2), Sharding(1, 8)]


@pytest.mark.parametrize("preset", catalog.MODELS)
@pytest.mark.parametrize("form", FORMS, ids=Format.describe)
@pytest.mark.parametrize("sharding", SHARDINGS, ids=Sharding.describe)
def test_the_parts_of_every_stage_add_up(preset: str, form: Format, sharding: Sharding) -> None:
    model = catalog.get(preset)
    stages = stage_layers(model.shapes.layers, sharding.pipeline)
    found = []
    for stage in stages:
        parts = stage_parts(model, form, stage)
        cut = sum(part.weight_bytes for part in parts if not part.whole)
        whole = sum(part.weight_bytes for part in parts if part.whole)
        found.append(-(-cut // sharding.tensor) + whole)
    assert tuple(found) == catalog.stage_weight_bytes(model, form, sharding)


@pytest.mark.parametrize("preset", catalog.MODELS)
def test_the_parts_of_a_model_hold_all_parameters(preset: str) -> None:
    model = catalog.get(preset)
    parts = stage_parts(model, Format("BF16"), range(model.shapes.layers))
    assert sum(part.parameters for part in parts) == catalog.parameters(model)


def test_a_matrix_that_groups_do_not_divide_stays_bf16() -> None:
    parts = stage_parts(catalog.get("GLM-4.6V"), Format("INT4"), range(46))
    dense = {part.form: part.parameters for part in parts if part.name == "dense layers"}
    assert dense == {"INT4": 2 * 10_944 * 4_096, "BF16": 10_944 * 4_096}


def test_only_the_encoder_is_whole_on_every_gpu() -> None:
    parts = stage_parts(catalog.get("GLM-4.6V"), Format("FP8"), range(46))
    assert [part.name for part in parts if part.whole] == [VISION]
