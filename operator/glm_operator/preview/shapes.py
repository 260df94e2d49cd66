"""Nodes described by their shape: `8xH100-80GB` is one node, `3x8xH100-80GB` are three."""

from __future__ import annotations

import re
from collections.abc import Sequence

from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.catalog.gpus import GPU, GPUS, labels_of, named
from glm_operator.plan.observed import Node
from glm_operator.preview.errors import InvalidInputError

SPELLING = "[NODESx]GPUSxPRODUCT-MEMORY, for example 8xH100-80GB or 3x8xH100-80GB"
MOST_NODES = 10_000
MOST_GPUS = 64
_SHAPE = re.compile(r"(?:(\d{1,9})x)?(\d{1,9})x([A-Za-z][A-Za-z0-9]*)-(\d{1,9})GB", re.IGNORECASE)


def nodes_of_shapes(shapes: Sequence[str], deployment: GLMDeployment) -> tuple[Node, ...]:
    """Empty nodes of the given shapes. Raises `InvalidInputError`.

    A tier whose `acceleratorResource` no shape offers is refused: the answer would be about
    nodes that nobody meant.
    """
    nodes: list[Node] = []
    for text in shapes:
        count, gpus, gpu = _parse(text)
        first = len(nodes) + 1
        nodes += [_node(number, gpus, gpu) for number in range(first, first + count)]
    _check_resources(shapes, nodes, deployment)
    return tuple(nodes)


def _parse(text: str) -> tuple[int, int, GPU]:
    """Nodes, GPUs of each, and which."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise InvalidInputError(f"--node-shape is {text!r}: write it as {SPELLING}")
    count, gpus = int(found[1] or 1), int(found[2])
    if not 1 <= count <= MOST_NODES or not 1 <= gpus <= MOST_GPUS:
        raise InvalidInputError(
            f"--node-shape is {text!r}: use 1 to {MOST_NODES} nodes of 1 to {MOST_GPUS} GPUs"
        )
    return count, gpus, _gpu(text, found[3], int(found[4]))


def _gpu(text: str, kind: str, gigabytes: int) -> GPU:
    found = named(f"{kind}-{gigabytes}GB")
    if found is not None:
        return found
    same = [row for row in GPUS if row.kind.lower() == kind.lower()]
    if not same:
        known = ", ".join(row.name for row in GPUS)
        raise InvalidInputError(
            f"--node-shape is {text!r}, and no GPU {kind} is known: use one of {known},"
            " or give the nodes themselves with --nodes"
        )
    known = " or ".join(row.name for row in same)
    raise InvalidInputError(
        f"--node-shape is {text!r}, and no {same[0].kind} has {gigabytes} GB: use {known}"
    )


def _node(number: int, gpus: int, gpu: GPU) -> Node:
    name = f"node-{number}-{gpus}x{gpu.name}".lower()
    return Node(name=name, labels=labels_of(gpu), allocatable={gpu.resource: gpus})


def _check_resources(
    shapes: Sequence[str], nodes: Sequence[Node], deployment: GLMDeployment
) -> None:
    offered = sorted({resource for node in nodes for resource in node.allocatable})
    for name, tier in deployment.spec.tiers.items():
        wanted = tier.placement.accelerator_resource
        if wanted not in offered:
            raise InvalidInputError(
                f"spec.tiers.{name}.placement.acceleratorResource is {wanted}, and"
                f" {', '.join(shapes)} offers {' and '.join(offered)}: set acceleratorResource to"
                f" {' or '.join(offered)}, or give a shape whose GPUs are counted as {wanted}"
            )
