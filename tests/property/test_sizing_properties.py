"""Sizing over every preset, format and GPU: what must hold whatever is asked."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from glm_operator import catalog
from glm_operator.api import reasons
from glm_operator.catalog import Format, gpus
from glm_operator.plan.advice import helps
from glm_operator.plan.fit import Fit, fit
from glm_operator.plan.observed import Node
from glm_operator.plan.placement import Constraints
from glm_operator.plan.sizing import Ask, Option, Shape, size

FORMATS = (
    Format("BF16"),
    Format("FP8"),
    Format("FP8", 128),
    Format("INT4"),
    Format("INT4", 64),
    Format("INT4", 32),
)
MODELS = tuple(catalog.MODELS.values())


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """Anything that the schema lets through."""
    model = draw(st.sampled_from(MODELS))
    return Ask(
        model=model,
        form=draw(st.sampled_from(FORMATS)),
        tensor=draw(st.sampled_from((0, 0, 0, 1, 2, 4, 8))),
        pipeline=draw(st.sampled_from((0, 0, 1, 2, 4))),
        expert=draw(
            st.sampled_from(("Auto", "Disabled", "Enabled" if model.is_mixture else "Auto"))
        ),
        max_model_len=draw(st.sampled_from((0, 2048, 65_536, model.max_context_tokens))),
        kv_cache=draw(st.sampled_from(("Auto", "BF16", "FP8"))),
        sequences=draw(st.sampled_from((1, 1, 2, 8))),
        videos=draw(st.sampled_from((0, 0, 1))) if model.sees else 0,
    )


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    return Shape(draw(st.sampled_from(gpus.GPUS)), draw(st.sampled_from((1, 2, 3, 4, 8, 16))))


def on(shape: Shape, ask: Ask) -> Fit:
    resource = shape.gpu.resource
    node = Node("n", gpus.labels_of(shape.gpu), allocatable={resource: shape.gpus})
    return fit(ask, Constraints(resource), [node])


@given(asks(), shapes())
def test_an_option_is_legal_and_holds_what_was_asked(ask: Ask, shape: Shape) -> None:
    for option in on(shape, ask).options:
        assert not catalog.refusal(ask.model, option.sharding)
        assert option.sharding.gpus <= shape.gpus
        assert ask.tensor in (0, option.tensor)
        assert ask.pipeline in (0, option.pipeline)
        assert ask.max_model_len in (0, option.max_model_len)
        assert option.max_model_len <= ask.model.max_context_tokens
        assert option.full_length_sequences >= ask.sequences
        assert option.headroom_bytes >= 0
        assert ask.kv_cache == "Auto" or option.fp8_kv_cache == (ask.kv_cache == "FP8")


@given(asks(), shapes())
def test_what_was_chosen_automatically_cuts_no_group(ask: Ask, shape: Shape) -> None:
    options = [] if ask.tensor else on(shape, ask).options
    assert not [one for one in options if catalog.group_refusal(ask.model, ask.form, one.sharding)]


@given(asks(), shapes())
def test_every_rejection_has_a_reason_of_the_catalogue_and_a_sentence(
    ask: Ask, shape: Shape
) -> None:
    found = on(shape, ask)
    assert found.options or found.rejected
    for one in found.rejected:
        assert reasons.Kind.PLAN in reasons.CATALOGUE[one.reason].kinds
        assert one.option
        assert one.message


@given(asks(), shapes(), st.integers(1, 200_000))
def test_more_memory_never_makes_a_size_impossible(ask: Ask, shape: Shape, more: int) -> None:
    larger = replace(shape, gpu=replace(shape.gpu, memory_mib=shape.gpu.memory_mib + more))
    for option in on(shape, ask).options:
        found = size(ask, larger, option.sharding, option.fp8_kv_cache)
        assert isinstance(found, Option)
        assert found.kv_tokens >= option.kv_tokens
        assert found.max_model_len >= option.max_model_len


@given(asks(), shapes(), st.integers(1, 8))
def test_more_gpus_never_make_a_tier_impossible(ask: Ask, shape: Shape, more: int) -> None:
    if on(shape, ask).options:
        assert on(replace(shape, gpus=shape.gpus + more), ask).options


@given(asks(), shapes())
def test_what_is_said_to_help_is_said_only_where_nothing_fits_and_of_known_fields(
    ask: Ask, shape: Shape
) -> None:
    if on(shape, ask).options:
        return
    resource = shape.gpu.resource
    node = Node("n", gpus.labels_of(shape.gpu), allocatable={resource: shape.gpus})
    for words in helps(ask, Constraints(resource), [node]):
        known = ("multimodal.", "context.", "parallelism.", "a checkpoint in ", "a node of ")
        assert words.startswith(known)
        assert "{" not in words
