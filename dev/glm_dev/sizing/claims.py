"""Published figures beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from glm_dev.sizing.answers import cell, fit_on
from glm_operator import catalog
from glm_operator.catalog import gpus

FILE = Path(__file__).with_name("published.yaml")
GB = 1_000_000_000
GIB = 1 << 30


def published() -> Mapping[str, Any]:
    """The claims with their sources."""
    found: Mapping[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def sizes() -> list[list[str]]:
    """Rows: model, published, computed, source, why."""
    claims = published()
    return [
        [
            f"{one['preset']} {one['quantization']}",
            one["published"],
            _size(one["preset"], one["quantization"]),
            claims["sources"][one["source"]],
            one["why"],
        ]
        for one in claims["sizes"]
    ]


def _size(preset: str, quantization: str) -> str:
    size = catalog.weight_bytes(catalog.get(preset), catalog.Format(quantization))
    return f"{size / GB:.1f} GB ({size / GIB:.1f} GiB)"


def nodes() -> list[list[str]]:
    """Rows: model, published, the planner's answer for a node of that shape, source, why."""
    claims = published()
    return [
        [
            f"{one['preset']} {one['quantization']}",
            one["published"],
            f"{one['shape']}: {_answer(one)}",
            claims["sources"][one["source"]],
            one["why"],
        ]
        for one in claims["nodes"]
    ]


def _answer(claim: Mapping[str, str]) -> str:
    count, _, name = claim["shape"].partition("x")
    gpu = gpus.named(name)
    if gpu is None:
        raise ValueError(f"{FILE.name} names {name}, which the catalogue does not have")
    found = fit_on(claim["preset"], claim["quantization"], gpu, int(count))
    return cell(found) if found.options else f"no: {found.rejected[0].message}"
