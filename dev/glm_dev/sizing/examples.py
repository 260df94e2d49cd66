"""What one gets from each example: the planner's answer, kept in the example's own comment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glm_operator.preview.files import read_object
from glm_operator.preview.report import Around, Report, about_new
from glm_operator.preview.shapes import nodes_of_shapes

FOLDER = Path(__file__).resolve().parents[3] / "examples"
INTRODUCTION = "# What the planner says of {shape} (python -m glm_dev.sizing --write renews it):"
LINE = "#   "
USUAL = "8xH100-80GB"
"""The node of examples whose name is no shape."""
PRETENDED = ("local", "simulated")
"""Examples without real weights: they fit, and figures would say nothing about them."""
_SHAPE = re.compile(r"\d+x[A-Z].*GB")
_BLOCK = re.compile(r"^# What the planner says .*\n(?:#   .*\n)*", re.MULTILINE)


def examples() -> list[Path]:
    """Every example."""
    return sorted(FOLDER.glob("*.yaml"))


def shape_of(example: Path) -> str:
    """The node that an example is for."""
    return example.stem if _SHAPE.fullmatch(example.stem) else USUAL


def planned(example: Path) -> Report:
    """The planner's answer for one node of the example's shape."""
    deployment = read_object(str(example))
    around = Around(nodes_of_shapes([shape_of(example)], deployment))
    return about_new(deployment, around).answer(False)


def comment(example: Path) -> str:
    """The generated lines of an example's comment."""
    if example.stem in PRETENDED:
        return ""
    tiers = planned(example).tiers.items()
    lines = [f"{LINE}{name}: {in_words(tier)}" for name, tier in tiers]
    return "\n".join([INTRODUCTION.format(shape=shape_of(example)), *lines, ""])


def in_words(tier: Mapping[str, Any]) -> str:
    """A tier of a report in one line."""
    if "gpu" not in tier:
        return "does not fit"
    fewest, most, gpus = tier["replicas"], tier["maxReplicas"], tier["gpusPerReplica"]
    replicas = f"{fewest} to {most} replicas" if most > fewest else _plural(fewest, "replica")
    cache = ", FP8 KV cache" if tier["kvCacheDType"] == "FP8" else ""
    length = f"{tier['fullLengthSequences']} x {tier['maxModelLen']:,} tokens"
    return f"{replicas} of {_plural(gpus, 'GPU')}, each {length}{cache}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def renewed(example: Path) -> str:
    """The example with a true comment, after its own comment and before the object."""
    text = _BLOCK.sub("", example.read_text())
    head, version, rest = text.partition("apiVersion:")
    return head + comment(example) + version + rest
