"""What `glm-weights read` told of checkpoints, given with --checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_operator.api import names
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.catalog import text_of
from glm_operator.preview.errors import InvalidInputError
from glm_operator.preview.files import STANDARD_INPUT, load, read, shown_as

SPELLING = "[TIER=]FACTS"
HOW = "`glm-weights read --path FOLDER`, or `--source hf://ORG/NAME`, prints them"

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Given:
    """One --checkpoint."""

    path: str
    tier: str = ""
    """Empty: the only one."""

    @classmethod
    def of(cls, written: str) -> Given:
        """As it is written; a file's own name may hold an equals sign."""
        tier, equals, path = written.partition("=")
        return cls(path, tier) if equals and tier in names.TIERS else cls(written)


def checkpoints_of(given: Iterable[Given], deployment: GLMDeployment) -> Mapping[str, Facts]:
    """What is told of the checkpoint of each tier. Raises `InvalidInputError`."""
    tiers, found = [name for name, _ in deployment.spec.tiers.items()], dict[str, Facts]()
    for one in given:
        tier = _tier(one, tiers)
        if tier in found:
            raise InvalidInputError(
                f"--checkpoint is given twice for {tier}: leave one of them out"
            )
        found[tier] = _facts(one.path)
    return found


def _tier(one: Given, tiers: list[str]) -> str:
    if one.tier and one.tier not in tiers:
        raise InvalidInputError(
            f"--checkpoint names the tier {one.tier}, and the object has {' and '.join(tiers)}"
        )
    if not one.tier and len(tiers) > 1:
        raise InvalidInputError(
            f"--checkpoint is {one.path}, and the object has {' and '.join(tiers)}: write it as"
            f" {tiers[0]}={one.path}"
        )
    return one.tier or tiers[0]


def _facts(path: str) -> Facts:
    """The facts of a file, alone or in what `glm-weights read` printed around them."""
    if path != STANDARD_INPUT and Path(path).is_dir():
        raise InvalidInputError(
            f"--checkpoint is {path}, a folder, and this command reads no weights: give it a file"
            f" with the folder's facts; {HOW}"
        )
    shown = shown_as(path)
    documents = load(shown, read(path))
    told = documents[0] if len(documents) == 1 else None
    if not isinstance(told, Mapping):
        raise InvalidInputError(f"{shown} holds no facts of a checkpoint: {HOW}")
    if told.get("outcome") == "Failed":
        raise InvalidInputError(
            f"{shown}: glm-weights could not read the checkpoint ({told.get('reason')}:"
            f" {str(told.get('message')).rstrip('.')})"
        )
    facts = told.get("facts", told)
    if not isinstance(facts, Mapping) or "text" not in facts or not _is_json(facts):
        raise InvalidInputError(f"{shown} holds no facts of a checkpoint: {HOW}")
    return facts


def _is_json(facts: Facts) -> bool:
    """Whether facts can be kept: YAML knows dates and keys that are no strings."""
    try:
        return bool(text_of(facts))
    except (TypeError, ValueError):
        return False
