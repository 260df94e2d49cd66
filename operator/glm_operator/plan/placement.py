"""Which nodes a tier accepts, whatever its model needs of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from glm_operator.plan.observed import Node, Taint

BLOCKING_EFFECTS = ("NoSchedule", "NoExecute")
FINISHED_PHASES = ("Failed", "Succeeded")


@dataclass(frozen=True, slots=True)
class Constraints:
    """Which nodes a tier accepts, apart from what its model needs."""

    resource: str
    node_names: tuple[str, ...] = ()
    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Mapping[str, str], ...] = ()


def tolerates(toleration: Mapping[str, str], taint: Taint) -> bool:
    """The scheduler's rule for one toleration and one taint."""
    effect = toleration.get("effect", "")
    if effect and effect != taint.effect:
        return False
    key = toleration.get("key", "")
    if toleration.get("operator", "Equal") == "Exists":
        return key in ("", taint.key)
    return key == taint.key and toleration.get("value", "") == taint.value


def node_refusal(node: Node, wanted: Constraints) -> str:
    """Why the tier's placement leaves this node out, or an empty string."""
    if wanted.node_names and node.name not in wanted.node_names:
        return "is not in placement.nodeNames"
    for key, value in (wanted.node_selector or {}).items():
        if node.labels.get(key) != value:
            return f"does not have the label {key}={value} of placement.nodeSelector"
    gpu = {"key": wanted.resource, "operator": "Exists", "effect": "NoSchedule"}
    tolerations = (gpu, *wanted.tolerations)
    for taint in node.taints:
        if taint.effect not in BLOCKING_EFFECTS or _is_health(taint):
            continue
        if not any(tolerates(item, taint) for item in tolerations):
            return f"has the taint {taint.key}:{taint.effect}, which is not tolerated"
    return ""


def _is_health(taint: Taint) -> bool:
    """Taints that repeat what `ready` and `unschedulable` say, set and removed by Kubernetes."""
    return taint.key in (
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/unschedulable",
    )


def health_refusal(node: Node) -> str:
    """Why nothing new may go to this node at present, or an empty string."""
    if not node.ready:
        return "is not ready"
    return "is cordoned" if node.unschedulable else ""


def gpus_text(count: int) -> str:
    """So many free GPUs, in words."""
    return "1 free GPU" if count == 1 else f"{count} free GPUs"
