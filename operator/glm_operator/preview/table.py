"""The report as text: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import yaml

from glm_operator.api.enums import Mode
from glm_operator.api.quantities import exact
from glm_operator.plan.edits import TierEdit
from glm_operator.preview.arithmetic import explanation
from glm_operator.preview.report import Report
from glm_operator.preview.text import columns, wrapped

GIB = 1 << 30
SHOWN = 4
"""Options of one kind that are shown; -o json has them all."""
NOTHING = "-"
UNMEASURED = "no figure was compared with a GPU yet (docs/sizing.md)"

Json = Mapping[str, Any]


def render(result: Report, form: str, width: int) -> str:
    """The report as `table`, `json` or `yaml`. `width`: columns of the table."""
    if form == "json":
        return json.dumps(result.document(), indent=2) + "\n"
    if form == "yaml":
        return yaml.safe_dump(result.document(), sort_keys=False, width=width)
    return "\n".join(_table(result, width)) + "\n"


def _table(result: Report, width: int) -> list[str]:
    lines = [*_head(result, width)]
    lines += ["", *columns(_rows(result.tiers), width), *_totals(result, width)]
    lines += _section(_applied(result), map(TierEdit.sentence, result.edits), width)
    lines += _section("To know of these nodes", result.notes, width)
    for name, tier in result.tiers.items():
        lines += _tier(name, tier, width)
    for name, tier in result.tiers.items():
        for one in tier.get("explain", ()):
            lines += ["", *explanation(name, one, width)]
    return lines


def _head(result: Report, width: int) -> list[str]:
    """The verdict, what it is about, and how far it may be trusted."""
    first = result.shortfall + "." if result.shortfall else result.message
    lines = wrapped(f"{verdict(result)}: {first}", width)
    lines += wrapped(result.message, width) if result.shortfall else []
    basis = result.basis
    if basis.text:
        version = f"with glm-operator {basis.version}"
        lines += wrapped(f"Planned on {basis.text} {version}; {UNMEASURED}.", width)
    return lines


def _applied(result: Report) -> str:
    waits = "" if result.mode == Mode.LIVE else f", once mode is Live and not {result.mode}"
    return f"Applied to what runs{waits}"


def verdict(result: Report) -> str:
    """The answer in a few words."""
    if result.fits:
        return "fits"
    if result.refused:
        return "cannot be served"
    if not result.waits:
        return "does not fit"
    if result.basis.described:
        return "does not fit together" if result.shortfall else "does not fit on these nodes"
    return "fits, and has no room now"


def _rows(tiers: Mapping[str, Json]) -> list[list[str]]:
    """One column for each tier."""
    cells = [_cells(tier) for tier in tiers.values()]
    names = list(dict.fromkeys(label for tier in cells for label in tier))
    head = ["", *tiers]
    return [head, *([label, *(tier.get(label, NOTHING) for tier in cells)] for label in names)]


def _cells(tier: Json) -> dict[str, str]:
    cells = {
        "model": f"{tier['model']} {tier['quantization']}",
        "replicas": _to(tier["replicas"], tier["maxReplicas"]),
    }
    if "gpu" not in tier:
        # What was not looked at has no rejected options.
        return cells | {"GPUs per replica": "does not fit" if tier["rejected"] else NOTHING}
    return cells | {
        "GPUs per replica": f"{tier['gpusPerReplica']} x {tier['gpu']}",
        "GPUs in all": _to(tier["gpus"], tier["maxGpus"]),
        "sharding": _sharding(tier),
        "context": f"{tier['maxModelLen']:,} tokens",
        "KV cache": f"{tier['kvTokens']:,} tokens ({tier['kvCacheDType']})",
        "full-length requests": f"{tier['fullLengthSequences']} at once",
        "largest batch": f"{tier['maxNumSeqs']} requests" if tier["maxNumSeqs"] else "as vLLM",
        "CPU, memory": f"{_cpus(exact(tier['cpu']) or 0)}, {tier['memory']} per replica",
        "weights": _gib(tier["gpuWeightBytes"]) + " per GPU",
        "disk for weights": _gib(tier["checkpointBytes"]),
        "nodes": ", ".join(tier["nodes"]) or NOTHING,
    }


def _sharding(tier: Json) -> str:
    stages = f", pipeline {tier['pipeline']}" if tier["pipeline"] > 1 else ""
    experts = ", expert parallel" if tier["expert"] == "Enabled" else ""
    return f"tensor {tier['tensor']}{stages}{experts}"


def _to(fewest: int, most: int) -> str:
    return f"{fewest} to {most}" if most > fewest else str(fewest)


def _totals(result: Report, width: int) -> list[str]:
    """What to buy; nothing where a tier has no size yet."""
    totals = result.totals()
    if not all("gpu" in tier for tier in result.tiers.values()):
        return []
    kinds = ", ".join(f"{count} x {gpu}" for gpu, count in totals["gpusByProduct"].items())
    more = f" (up to {totals['maxGpus']} GPUs as flash scales)"
    nodes = f" on {totals['nodes']} node{'' if totals['nodes'] == 1 else 's'}"
    text = (
        f"In all: {kinds}{more if totals['maxGpus'] > totals['gpus'] else ''}"
        f"{nodes if totals['nodes'] else ''};"
        f" {_cpus(totals['cpu'])} and {_gib(totals['memoryBytes'])} of host memory;"
        f" {_gib(totals['checkpointBytes'])} of disk for the weights, on each node that loads them."
    )
    return ["", *wrapped(text, width)]


def _tier(name: str, tier: Json, width: int) -> list[str]:
    fitting = (f"{one['option']}: {one['message']}" for one in tier.get("alternatives", ()))
    lacking = "options that do not fit" if "gpu" in tier else "does not fit"
    return [
        *_section(f"{name}: to know before", tier.get("warnings", ()), width),
        *_section(f"{name}: it would fit with", tier.get("help", ()), width),
        *_section(f"{name}: other options that fit", fitting, width, "that fit"),
        *_section(f"{name}: {lacking}, the nearest first", _grouped(tier), width, "that do not"),
    ]


def _grouped(tier: Json) -> Iterator[str]:
    """Options that share a reason in one line."""
    options: dict[str, list[str]] = {}
    for one in tier["rejected"]:
        options.setdefault(one["message"], []).append(one["option"])
    yield from (f"{'; '.join(same)}: {message}" for message, same in options.items())


def _section(title: str, items: Iterable[str], width: int, kind: str = "") -> list[str]:
    """A title and its items, of which the first are shown where `kind` names what is left out."""
    found = list(items)
    if not found:
        return []
    shown = found[:SHOWN] if kind else found
    lines = [line for item in shown for line in wrapped(item, width, "  ", "      ")]
    rest = len(found) - len(shown)
    more = [f"  and {rest} more {kind}: -o yaml has them all"] if rest else []
    return ["", title, *lines, *more]


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB"


def _cpus(count: Fraction | float) -> str:
    """Cores as a person writes them, without a zero that says nothing."""
    number = f"{float(count):,.3f}".rstrip("0").rstrip(".")
    return f"{number} CPU{'s' if count > 1 else ''}"
