"""What an object still wants, as other objects' plans see it, and what it leaves to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from glm_operator.api.quantities import amounts
from glm_operator.manifests.engine import EngineSpec
from glm_operator.manifests.engine_pod import resources
from glm_operator.plan.demand import Demand, Queued
from glm_operator.plan.hosting import Hosting
from glm_operator.plan.limits import Resources
from glm_operator.plan.order import Claim, Rank
from glm_operator.plan.rollout import Moves

NOBODY = ""
"""In a plan, replicas of other objects have no siblings that they would keep away from."""
NO_HOME: frozenset[str] = frozenset()


def demand_of(engine: EngineSpec, hole: int = 0) -> Demand:
    """What a new replica of this engine asks of a node."""
    hosting = Hosting(engine)
    return Demand(
        engine.tier,
        engine.resource,
        engine.gpus,
        hosting.hosts,
        hole,
        hosting=hosting.key,
        resources=resources_of(engine),
        refusal=hosting.refusal,
    )


def resources_of(engine: EngineSpec) -> Resources:
    """What a pod of this engine asks for."""
    asked = resources(engine)
    requests, limits = amounts(asked["requests"]), amounts(asked["limits"])
    return Resources(requests, limits, engine.priority_class)


def queued(claims: Iterable[Claim], mine: tuple[str, str]) -> list[Queued]:
    """What comes before the replicas of one object, each in its place.

    Of the object's own claims of last time only those count that succeed a replica which made
    way: nothing else remembers for whom its GPUs became free.
    """
    return [
        Queued(one.rank, _demand(one), one.count)
        for one in claims
        if one.rank.object != mine or one.rank.succeeds
    ]


def _demand(claim: Claim) -> Demand:
    demand = demand_of(claim.engine, claim.hole)
    return replace(demand, tier=NOBODY, homes=claim.homes, resources=None)


def served(claims: Iterable[Claim], tier: str) -> tuple[Claim, ...]:
    """The claims of an object that are left once one more replica of a tier exists."""
    left = list(claims)
    mine = [one for one in left if one.rank.tier == tier]
    if mine:
        first = min(mine, key=lambda one: one.rank.key)
        place = left.index(first)
        left[place : place + 1] = [replace(first, count=first.count - 1)] if first.count > 1 else []
    return tuple(left)


def gives_back(before: Iterable[Claim], after: Iterable[Claim]) -> bool:
    """Whether others may have room now that an object claims something else."""
    present = tuple(after)
    return any(not any(_covers(new, old) for new in present) for old in before)


def _covers(new: Claim, old: Claim) -> bool:
    same = (new.rank, new.engine, new.homes) == (old.rank, old.engine, old.homes)
    return same and new.count >= old.count


def successors(claims: Iterable[Claim], rank: Rank) -> list[Claim]:
    """What a tier claimed for replicas that succeed those that made way for them."""
    return [
        one
        for one in claims
        if one.rank.succeeds and (one.rank.object, one.rank.tier) == (rank.object, rank.tier)
    ]


@dataclass(frozen=True, slots=True)
class Stand:
    """Where one tier stands among all that want GPUs, and what it asks for."""

    rank: Rank
    """Of its promised replicas."""
    demand: Demand
    owed: int
    """Replicas that are promised."""
    prior: int
    """Replicas that it claimed in the places of others which made way."""
    leaving: frozenset[str]
    """Nodes of replicas that make way."""
    coming: frozenset[str] = NO_HOME
    """Nodes to which weights are brought for replicas that are wanted."""

    @property
    def last(self) -> Rank:
        """The place of the last replica that is wanted."""
        return self.demand.later or self.rank

    def claims(
        self, engine: EngineSpec, moves: Moves, desired: int, *, succeeds: bool, limited: bool
    ) -> Iterator[Claim]:
        """What is wanted and does not exist yet, each part in its place."""
        missing = moves.create + moves.short
        heirs = min(moves.create, self.prior) + (moves.short if succeeds else 0)
        promised = min(missing - heirs, self.demand.owed)
        follow = missing - heirs - promised
        if limited:
            # Growth is asked for one at a time, so that objects of one age share what gets free.
            promised += max(0, self.owed - desired)
            follow += 1 if desired >= self.owed else 0
        heir = replace(self.rank, succeeds=True)
        homes = self.demand.homes | self.leaving
        parts = (
            (heir, heirs, homes),
            (self.rank, promised, self.coming),
            (self.last, follow, self.coming),
        )
        for rank, count, where in parts:
            if count > 0:
                yield Claim(rank, engine, count, self.demand.hole, where)
