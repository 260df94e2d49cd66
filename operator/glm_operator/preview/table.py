"""The report as text: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from glm_operator.preview.report import Report

HEADINGS = ("TIER", "MODEL", "GPUS", "GPU", "CONTEXT", "KV TOKENS", "NODES")


def render(result: Report, form: str) -> str:
    """The report as `table`, `json` or `yaml`."""
    if form == "json":
        return json.dumps(result.document(), indent=2) + "\n"
    if form == "yaml":
        return yaml.safe_dump(result.document(), sort_keys=False, width=100)
    return _table(result)


def _table(result: Report) -> str:
    rows = [HEADINGS, *(_row(name, tier) for name, tier in result.tiers.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [_line(row, widths) for row in rows]
    for name, tier in result.tiers.items():
        if tier["rejected"]:
            lines += ["", f"{name}: not taken"]
        lines += [f"  {one['option']}: {one['message']}" for one in tier["rejected"]]
    verdict = (
        "fits" if result.fits else "fits, and has no room now" if result.waits else "does not fit"
    )
    return "\n".join([f"{verdict}: {result.message}", "", *lines]) + "\n"


def _row(name: str, tier: Mapping[str, Any]) -> tuple[str, ...]:
    model = f"{tier['model']} {tier.get('quantization', '')}".strip()
    if "tensor" not in tier:
        return name, model, "-", "-", "-", "-", "-"
    numbers = (tier["gpusPerReplica"], tier["gpu"], tier["maxModelLen"], tier["kvTokens"])
    return name, model, *map(str, numbers), ", ".join(tier["nodes"]) or "-"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "  ".join(cells).rstrip()
