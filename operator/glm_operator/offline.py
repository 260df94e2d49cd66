"""The planner without a cluster: an object and a list of nodes in, a report out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glm_operator.api import names, reasons
from glm_operator.api.enums import Mode
from glm_operator.api.errors import InvalidObject
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.convert import nodes_of
from glm_operator.plan.observed import Defaults, Node, Observed
from glm_operator.plan.planner import plan

Json = Mapping[str, Any]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C parser where PyYAML has it: a list of 5,000 nodes takes seconds instead of minutes."""

HEADINGS = ("TIER", "MODEL", "GPUS", "GPU", "CONTEXT", "KV TOKENS", "NODES")


class InvalidInputError(ValueError):
    """A file cannot be used; the text is one sentence that names it and the way out."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the planner says of an object on given nodes."""

    fits: bool
    """Whether every replica would find a node now."""
    reason: str
    message: str
    tiers: Mapping[str, Mapping[str, Any]]
    """As in the status: by tier how it would run, and what was rejected."""

    def document(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "fits": self.fits,
            "reason": self.reason,
            "message": self.message,
            "tiers": {name: dict(tier) for name, tier in self.tiers.items()},
        }


def report(deployment: GLMDeployment, nodes: tuple[Node, ...], defaults: Defaults) -> Report:
    """Plan the object as if it were new, whatever its mode."""
    spec = deployment.spec.model_copy(update={"mode": Mode.PLAN})
    fresh = deployment.model_copy(update={"spec": spec})
    observed = Observed(fresh, uid="", generation=1, nodes=nodes)
    status = plan(observed, now=0.0, defaults=defaults).status
    planned = next(one for one in status["conditions"] if one["type"] == "Planned")
    fits = planned["status"] == "True"
    return Report(fits, planned["reason"], planned["message"], status["plan"])


def read_object(path: Path) -> GLMDeployment:
    """The one GLMDeployment of a file. Raises `InvalidInputError`."""
    found = [document for document in _documents(path) if document.get("kind") == names.KIND]
    if len(found) != 1:
        raise InvalidInputError(f"{path} has {len(found)} objects of kind {names.KIND}: give one")
    try:
        return GLMDeployment.parse(found[0])
    except InvalidObject as error:
        raise InvalidInputError(f"{path}: {error}") from error


def read_nodes(path: Path, deployment: GLMDeployment) -> tuple[Node, ...]:
    """The nodes of a file, with the GPUs that the pods in it hold. Raises `InvalidInputError`.

    The object's own replicas hold none: what is asked is how it would run, not whether twice.
    """
    documents = list(_documents(path))
    by_kind = {
        kind: [document for document in documents if document.get("kind") == kind]
        for kind in ("Node", "Pod")
    }
    if not by_kind["Node"]:
        raise InvalidInputError(f"{path} has no nodes: write `kubectl get nodes -o yaml` into it")
    try:
        pods = [pod for pod in by_kind["Pod"] if not _is_of(pod, deployment)]
        return nodes_of(by_kind["Node"], pods)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{path} has a node or pod that lacks {error}") from error


def _is_of(pod: Json, deployment: GLMDeployment) -> bool:
    metadata = pod["metadata"]
    mine = (metadata.get("labels") or {}).get(names.LABEL_DEPLOYMENT) == deployment.name
    return mine and metadata.get("namespace") == deployment.namespace


def _documents(path: Path) -> Iterator[Json]:
    """Every object of a file; lists are taken apart."""
    try:
        with path.open(encoding="utf-8") as file:
            loaded = list(yaml.load_all(file, Loader=LOADER))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    for document in loaded:
        if not isinstance(document, Mapping):
            continue
        items = document.get("items")
        yield from items if isinstance(items, list) else (document,)


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
        lines += [f"  {one['option']}: {one['reason']}" for one in tier["rejected"]]
    waits = result.reason == reasons.WAITING_FOR_GPUS
    verdict = "fits" if result.fits else "fits, and has no room now" if waits else "does not fit"
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
