"""Reading an object: defaults, one sentence for what is wrong, and the way back to JSON."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from glm_operator.api.errors import InvalidObject
from glm_operator.api.v1alpha1 import GLMDeployment, KVCacheDType, Mode, ScalingMode
from object_cases import FLASH, REMOVED, base, changed, full


def test_a_minimal_object_gets_every_default() -> None:
    spec = GLMDeployment.parse(base()).spec
    flash = spec.tiers.flash
    assert flash is not None
    assert (spec.mode, flash.scaling.mode, flash.replicas) == (Mode.LIVE, ScalingMode.INTERNAL, 1)
    assert flash.context.kv_cache_dtype is KVCacheDType.AUTO


def test_a_full_object_comes_back_as_it_was_written() -> None:
    parsed = GLMDeployment.parse(full())
    assert parsed.spec.model_dump(mode="json", by_alias=True) == full()["spec"]


def test_tiers_come_flagship_first_and_absent_ones_not() -> None:
    both = GLMDeployment.parse(base()).spec.tiers
    one = GLMDeployment.parse(changed({"spec.tiers.flagship": REMOVED})).spec.tiers
    assert [name for name, _ in both.items()] == ["flagship", "flash"]
    assert [name for name, _ in one.items()] == ["flash"]


def test_the_object_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        GLMDeployment.parse(base()).spec.mode = Mode.PLAN  # type: ignore[misc]


def test_status_and_other_metadata_are_left_alone() -> None:
    stored = changed({"status.conditions": [], "metadata.labels": {"a": "b"}, "metadata.uid": "u"})
    assert GLMDeployment.parse(stored).metadata.uid == "u"


SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({"spec.tiers.flash.model.uri": REMOVED}, "spec.tiers.flash.model.uri is required"),
    (
        {f"{FLASH}.replicas": -1},
        "spec.tiers.flash.replicas is -1: must be greater than or equal to 0",
    ),
    ({f"{FLASH}.replica": 1}, "spec.tiers.flash.replica is not a field of a GLMDeployment"),
    ({"spec.mode": "On"}, "spec.mode is 'On': must be 'Live', 'Plan' or 'Paused'"),
    (
        {f"{FLASH}.placement.nodeNames": ["ok", ""]},
        "spec.tiers.flash.placement.nodeNames[1] is '': must have at least 1 character",
    ),
    (
        {f"{FLASH}.scaling.minReplicas": 99, "spec.mode": "On"},
        "(and 1 more)",
    ),
    (
        {f"{FLASH}.placement.nodeNames": ["gpu-1", "gpu-2", "gpu-1"]},
        "spec.tiers.flash.placement.nodeNames: gpu-1 is there more than once",
    ),
    (
        {f"{FLASH}.engine.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "spec.tiers.flash.engine.env: A is there more than once",
    ),
    (
        {f"{FLASH}.placement.tolerations": [{"key": "a b", "operator": "Exists"}]},
        "spec.tiers.flash.placement.tolerations[0].key is 'a b': must match pattern",
    ),
    ({"kind": "Deployment"}, "kind is 'Deployment': must be 'GLMDeployment'"),
    ({"spec": None}, "spec is None: must be a valid dictionary"),
]


@pytest.mark.parametrize(("changes", "sentence"), SENTENCES)
def test_a_wrong_object_gets_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        GLMDeployment.parse(changed(changes))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut_in_the_sentence() -> None:
    with pytest.raises(InvalidObject) as caught:
        GLMDeployment.parse(changed({f"{FLASH}.engine.image": "x" * 5000}))
    assert len(str(caught.value)) < 250


def test_a_misspelt_field_is_named_before_the_one_that_is_missing_for_it() -> None:
    model = {"preset": "GLM-4.6V", "uri": "hf://zai-org/GLM-4.6V", "quantisation": "FP8"}
    with pytest.raises(InvalidObject, match=r"model\.quantisation is not a field"):
        GLMDeployment.parse(changed({"spec.tiers.flagship.model": model}))


def test_a_number_where_a_string_belongs_is_to_be_quoted() -> None:
    with pytest.raises(InvalidObject, match=r'is 4: must be a string, write it in quotes: "4"'):
        GLMDeployment.parse(changed({"spec.tiers.flagship.parallelism.tensor": 4}))
