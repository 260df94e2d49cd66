"""What a checkpoint really is overrides its preset, and what differs is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.catalog import (
    CheckpointRefused,
    Format,
    Sharding,
    adapted,
    text_of,
    weight_bytes,
)
from glm_operator.catalog.checkpoint import vision_parameters
from glm_operator.preview.report import CHECKPOINT_REFUSALS
from recorded_facts import facts

BIG, SMALL = catalog.get("GLM-4.6V"), catalog.get("GLM-4.6V-Flash")
PUBLISHED = {
    "glm-4.6v": (BIG, Format("BF16")),
    "glm-4.6v-fp8": (BIG, Format("FP8")),
    "glm-4.6v-flash": (SMALL, Format("BF16")),
    "glm-4.6v-flash-awq": (SMALL, Format("INT4")),
}


def of(told: dict[str, Any], model: catalog.Model = BIG, form: str = "FP8") -> catalog.Checkpoint:
    return adapted(model, Format(form), text_of(told))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_checkpoint_is_its_preset(name: str) -> None:
    model, form = PUBLISHED[name]
    found = adapted(model, form, text_of(facts(name)))
    assert (found.model, found.form, found.differences) == (model, form, ())
    assert found.bytes == facts(name)["bytes"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_weights_come_to_what_the_files_hold(name: str) -> None:
    model, form = PUBLISHED[name]
    told = facts(name)["weightBytes"]
    assert abs(weight_bytes(model, form) - told) < told / 100


@pytest.mark.parametrize(("model", "name"), [(BIG, "glm-4.6v"), (SMALL, "glm-4.6v-flash")])
def test_the_encoders_parameters_follow_from_its_dimensions(
    model: catalog.Model, name: str
) -> None:
    assert vision_parameters(facts(name)["vision"]) == model.shapes.vision_parameters


def test_without_facts_the_preset_stays() -> None:
    assert adapted(BIG, Format("INT4"), "") == catalog.Checkpoint(BIG, Format("INT4"), 0)


def test_another_dimension_counts_and_is_named() -> None:
    found = of(facts(text__num_hidden_layers=40))
    assert found.model.shapes.layers == 40
    assert "layers 40 instead of 46" in found.differences[0]


def test_another_format_counts_and_is_named() -> None:
    found = of(facts("glm-4.6v"))
    assert found.form == Format("BF16")
    assert "say FP8, and the checkpoint is BF16" in found.differences[0]


def test_a_shorter_context_counts_and_a_longer_one_does_not() -> None:
    assert of(facts(text__max_position_embeddings=65536)).model.max_context_tokens == 65536
    assert of(facts(text__max_position_embeddings=1 << 20)).model.max_context_tokens == 131072


def test_what_the_checkpoint_leaves_unquantised_takes_its_room() -> None:
    found = of(facts(modules__attention=[184, 0]))
    assert weight_bytes(found.model, found.form) > weight_bytes(BIG, Format("FP8"))
    assert "184 of 184 matrices of the attention are not quantised" in found.differences


def test_a_quantised_encoder_is_warned_of() -> None:
    assert "vision encoder is quantised" in of(facts(modules__vision=[124, 124])).differences[0]


def test_files_of_another_size_than_the_plan_counts_are_told_of() -> None:
    told = facts()["weightBytes"] * 2
    assert "its files hold" in of(facts(weightBytes=told)).differences[0]


@pytest.mark.parametrize(
    ("told", "reason", "sentence"),
    [
        (facts("glm-4.6v-unsupported"), reasons.ARCHITECTURE_UNSUPPORTED, "vLLM 0.32 does not"),
        (facts("glm-4.6v-flash"), reasons.CHECKPOINT_MISMATCH, "Glm4vForConditionalGeneration"),
        (
            facts(architecture=""),
            reasons.ARCHITECTURE_UNSUPPORTED,
            "names the architecture nothing",
        ),
        (facts(quantization__kind="other"), reasons.CHECKPOINT_UNREADABLE, "compressed-tensors"),
        (facts(text__hidden_size="x"), reasons.CHECKPOINT_UNREADABLE, "hidden_size"),
        (facts(text__num_hidden_layers=10**9), reasons.CHECKPOINT_UNREADABLE, "from 1 to 512"),
        (facts(text__hidden_size=True), reasons.CHECKPOINT_UNREADABLE, "hidden_size"),
        (facts(vision={"depth": 3}), reasons.CHECKPOINT_UNREADABLE, "makes no sense"),
        (facts(text=[]), reasons.CHECKPOINT_UNREADABLE, "makes no sense"),
        (facts(version=2), reasons.CHECKPOINT_UNREADABLE, "of one release"),
        (facts(text__n_routed_experts=0), reasons.CHECKPOINT_MISMATCH, "has no experts"),
        (facts(vision=None), reasons.CHECKPOINT_MISMATCH, "has no vision encoder"),
        (facts(modules__attention=[3, 4]), reasons.CHECKPOINT_UNREADABLE, "4 of its 3 matrices"),
        (facts(modules__attention=["x"]), reasons.CHECKPOINT_UNREADABLE, "makes no sense"),
        (facts(modules__dense=["x", 1]), reasons.CHECKPOINT_UNREADABLE, "makes no sense"),
        (facts(quantization__groupSize=-1), reasons.CHECKPOINT_UNREADABLE, "groupSize"),
        (facts(text__max_position_embeddings=-1), reasons.CHECKPOINT_UNREADABLE, "max_position"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_refused_with_its_reason(
    told: dict[str, Any], reason: str, sentence: str
) -> None:
    with pytest.raises(CheckpointRefused, match=sentence) as caught:
        of(told)
    assert caught.value.reason == reason


PARTS = {"attention": 184, "dense": 3, "experts": 17_280, "shared_experts": 135}
SHARDINGS = [Sharding(1), Sharding(8), Sharding(8, 1, True), Sharding(4, 2)]


@given(st.sampled_from(sorted(PARTS)), st.data(), st.sampled_from(SHARDINGS))
def test_more_quantised_matrices_never_take_more_room(
    part: str, data: st.DataObject, sharding: Sharding
) -> None:
    counts = data.draw(st.lists(st.integers(0, PARTS[part]), min_size=2, max_size=2))
    fewer, more = (of(_quantised(part, count)) for count in sorted(counts))
    assert weight_bytes(more.model, more.form) <= weight_bytes(fewer.model, fewer.form)
    small = catalog.stage_weight_bytes(more.model, more.form, sharding)
    large = catalog.stage_weight_bytes(fewer.model, fewer.form, sharding)
    assert all(one <= other for one, other in zip(small, large, strict=True))


def _quantised(part: str, count: int) -> dict[str, Any]:
    changes: dict[str, Any] = {f"modules__{part}": [PARTS[part], count]}
    return facts(**changes)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 24) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=4,
)
PLACES = [
    *(f"text__{key}" for key in facts()["text"]),
    *(f"vision__{key}" for key in facts()["vision"]),
    *(f"quantization__{key}" for key in facts()["quantization"]),
    *(f"modules__{key}" for key in facts()["modules"]),
    *facts(),
]


@given(st.dictionaries(st.sampled_from(PLACES), ANYTHING, max_size=3))
def test_whatever_facts_say_they_are_sized_or_refused_in_a_sentence(
    changes: dict[str, Any],
) -> None:
    told = facts()
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = told[parents[0]] if parents else told
        if isinstance(place, dict):
            place[last] = value
    found = _sized_or_refused(told)
    if found is None:
        return
    for tensor in catalog.legal_tensor(found.model):
        assert min(catalog.stage_weight_bytes(found.model, found.form, Sharding(tensor))) > 0


def _sized_or_refused(told: dict[str, Any]) -> catalog.Checkpoint | None:
    try:
        return of(told)
    except CheckpointRefused as refused:
        reason = refused.reason
    assert reason in CHECKPOINT_REFUSALS
    return None
