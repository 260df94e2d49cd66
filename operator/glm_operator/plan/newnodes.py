"""Nodes that a node autoscaler could make for a tier: what it may be sized for and asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from glm_operator.api import shapes
from glm_operator.api.enums import Provisioning
from glm_operator.api.tier import AnyTier
from glm_operator.catalog import gpus
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import NodeWish
from glm_operator.plan.hosting import Hosting, can_be_hosted
from glm_operator.plan.kinds import Kinds
from glm_operator.plan.observed import Node

RETRY_LIMIT_SECONDS = 3600.0
"""Longest time between a withdrawal and the next try."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How a tier may ask for nodes."""

    at_most: int
    """Replicas that may wait for a node at a time."""
    timeout_seconds: float
    shape: str
    """The nodes that come, such as 8xH100-80GB; empty: like those of the cluster."""

    def retry_seconds(self, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        if not failures:
            return 0.0
        return min(RETRY_LIMIT_SECONDS, self.timeout_seconds * 2.0 ** min(failures - 1, 10))


def policy_of(spec: AnyTier) -> Policy | None:
    """How a tier may ask for nodes; None: it may not."""
    placement = spec.placement
    if placement.provisioning is Provisioning.NONE:
        return None
    asked = placement.node_autoscaler
    return Policy(asked.max_unschedulable, asked.timeout_seconds, asked.node_shape)


def candidates(spec: AnyTier, nodes: Kinds) -> Kinds:
    """Nodes that a tier may be sized for: those of the cluster, and one that would come."""
    new = _new_node(spec)
    return Kinds((*nodes, *new)) if new else nodes


def can_come(spec: AnyTier, engine: EngineSpec, nodes: Kinds) -> bool:
    """Whether a node autoscaler may be asked for a node that could host the engine."""
    return policy_of(spec) is not None and can_be_hosted(engine, _new_node(spec) or nodes)


def wish_of(spec: AnyTier, engine: EngineSpec, nodes: Iterable[Node]) -> NodeWish:
    """Which node a replica without one should come to.

    Known products that are too small are excluded and those that come are preferred, and not the
    other way round: the nodes that an autoscaler plans with often lack the labels of their GPUs.
    """
    hosting, resource, nodes = Hosting(engine), engine.resource, tuple(nodes)
    comes = _new_node(spec) or nodes
    good = {_product(node, resource) for node in hosting.hosts(comes)}
    present = {_product(node, resource): node for node in nodes}
    bad = {
        product
        for product, node in present.items()
        if hosting.lack(gpus.of_labels(node.labels, resource))
    }
    known = (gpu for gpu in gpus.GPUS if gpu.is_amd == resource.startswith("amd.com/"))
    bad |= {gpu.label for gpu in known if hosting.lack(gpu)}
    shape = spec.placement.node_autoscaler.node_shape
    return NodeWish(
        text=shape or f"{engine.gpus} x {resource}",
        label=gpus.product_label(resource),
        avoid=tuple(sorted(bad - {""})),
        prefer=tuple(sorted(good - {""})),
    )


def _product(node: Node, resource: str) -> str:
    return gpus.told(node.labels, resource)[0]


def _new_node(spec: AnyTier) -> tuple[Node, ...]:
    """A node of the shape that the object names; none where it names none."""
    policy, placement = policy_of(spec), spec.placement
    if policy is None or not policy.shape:
        return ()
    count, name = shapes.parse(policy.shape)
    gpu = gpus.named(name)
    if gpu is None:
        raise ValueError(f"{name} is a GPU for the object's schema and not for the catalogue")
    labels = gpus.labels_of(gpu) | dict(placement.node_selector)
    size = {placement.accelerator_resource: count}
    return (Node(f"new {policy.shape}", labels=labels, allocatable=size),)
