"""A node autoscaler as small as can be: a node without a machine for each pod that lacks one.

Like real ones it looks at pods that the scheduler cannot place, and asks whether a node made from
its template would take them. The template knows nothing of GPU labels, which come later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from api_server import ApiServer
from glm_dev.cluster import LocalCluster, kwok
from glm_dev.cluster.shapes import parse_shape
from glm_operator.kube import convert
from glm_operator.kube.resources import NODE, POD

Json = dict[str, Any]


@dataclass
class NodeAutoscaler:
    """Makes nodes of one shape, with the labels of one node group."""

    cluster: LocalCluster
    api: ApiServer
    shape: str
    labels: Mapping[str, str]
    made: dict[str, str] = field(default_factory=dict)
    """Uid of the pod -> node that was made for it."""

    def __post_init__(self) -> None:
        kwok.ensure_running(self.cluster.plan, print)

    def look(self, namespace: str) -> int:
        """Make a node for each new pod that could use one; returns how many were made so far."""
        for pod in self.api.get(POD.path(namespace))["items"]:
            uid = pod["metadata"]["uid"]
            if uid not in self.made and self._helps(pod):
                self.made[uid] = self._make()
        return len(self.made)

    def _helps(self, pod: Json) -> bool:
        """Whether the scheduler refuses a pod, and would give it a node of the template."""
        scheduled = convert.condition(pod, "PodScheduled")
        waits = scheduled.get("reason") == "Unschedulable" and "nvidia.com/gpu" in str(pod["spec"])
        selected = (pod["spec"].get("nodeSelector") or {}).items() <= self.labels.items()
        return waits and selected and self._is_near(pod)

    def _is_near(self, pod: Json) -> bool:
        """The required affinity; a field can only be the name of a node that exists."""
        affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        return all(
            not term.get("matchFields") and all(map(self._matches, term["matchExpressions"]))
            for term in required.get("nodeSelectorTerms", ())
        )

    def _matches(self, expression: Json) -> bool:
        among = self.labels.get(expression["key"]) in expression["values"]
        return among if expression["operator"] == "In" else not among

    def _make(self) -> str:
        name = f"grown-{len(self.made) + 1}"
        manifest = kwok.manifest(name, parse_shape(self.shape))
        told = parse_shape(self.shape).labels()
        kept = {key: value for key, value in manifest["metadata"]["labels"].items()}
        labels = {key: value for key, value in kept.items() if key not in told}
        manifest["metadata"]["labels"] = labels | dict(self.labels)
        self.api.create(NODE.path(), manifest)
        return name

    def tell_gpus(self) -> None:
        """GPU feature discovery has run on every node."""
        labels = parse_shape(self.shape).labels()
        for name in self.made.values():
            self.api.merge(NODE.path("", name), {"metadata": {"labels": labels}})

    def remove_all(self) -> None:
        """Take every node away."""
        for name in self.made.values():
            self.api.delete(NODE.path("", name))
