"""What a replica lacks that finds no room, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glm_operator.plan.demand import Demand
from glm_operator.plan.observed import Node
from glm_operator.plan.order import Rank
from glm_operator.plan.placement import gpus_text, health_refusal
from glm_operator.plan.room import Room


def shortage(room: Room, demand: Demand, rank: Rank) -> str:
    """What a replica of a rank needs, how near the best node comes, and who comes first."""
    denied = room.lack(demand)
    if denied is not None:
        return denied.sentence
    need = f"needs {gpus_text(demand.gpus)} on one node"
    possible = [node for node in room.could_host(demand) if demand.resource in node.allocatable]
    if not possible:
        return f"{need}; no node of this cluster may host it{_first_refusal(room, demand)}"

    def distance(node: Node) -> tuple[bool, int, str]:
        return bool(health_refusal(node)), -room.free(node, demand.resource), node.name

    best = min(possible, key=distance)
    return f"{need}; best node {best.name} {_state(room, best, demand, rank)}"


def _first_refusal(room: Room, demand: Demand) -> str:
    """Why the first node with the GPUs cannot host it, after the sentence that says none can."""
    told = ((node.name, demand.refusal(node)) for node in room.offering(demand.resource))
    name, why = next(((name, why) for name, why in told if why), ("", ""))
    return f": {name} {why}" if why else ""


def _state(room: Room, node: Node, demand: Demand, rank: Rank) -> str:
    unhealthy = health_refusal(node)
    if unhealthy:
        return unhealthy
    free = f"has {room.free(node, demand.resource)} free"
    taken = room.taken(node, demand.resource)
    mine = [f"{taken} for other replicas of this object"] if taken else []
    kept = _kept(room, node, demand.resource, rank)
    return ", ".join([free, *mine, *kept, *_holders(node, demand.resource)])


def _kept(room: Room, node: Node, resource: str, rank: Rank) -> Iterator[str]:
    """For whom GPUs of a node are kept, each tier once."""
    counts: dict[Rank, int] = {}
    for one in room.kept(node, resource):
        counts[one.rank] = counts.get(one.rank, 0) + one.gpus
    for keeper, count in counts.items():
        are = "1 is" if count == 1 else f"{count} are"
        if keeper.object == rank.object:
            yield f"{are} kept for its own {keeper.tier}"
        else:
            why = keeper.why_before(rank)
            owner = f"{keeper.namespace}/{keeper.name} {keeper.tier}"
            yield f"{are} kept for {owner}, which comes first ({why})"


def _holders(node: Node, resource: str) -> list[str]:
    """Who holds GPUs of a node: the largest two by name, the others as a sum."""
    holds: Sequence[tuple[int, str]] = sorted(
        (-hold.count, f"{hold.namespace}/{hold.pod}")
        for hold in node.holds
        if hold.resource == resource and hold.count
    )
    named = [f"{-count} held by {pod}" for count, pod in holds[:2]]
    rest = -sum(count for count, _ in holds[2:])
    return [*named, f"{rest} by others"] if rest else named
