"""How many more engine pods the namespace's quotas admit, and what they say otherwise.

The rules are those of the API server's quota admission for pods (kubernetes/kubernetes,
pkg/quota/v1/evaluator/core). Small pods such as the gateways' are left to the server itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from glm_operator.api import reasons
from glm_operator.api.quantities import text
from glm_operator.plan.limits import Amounts, LimitItem, Resources, defaulted, range_refusal

COMPUTE = ("cpu", "memory")
BOTH_WAYS = (*COMPUTE, "ephemeral-storage")
"""Resources that quotas count by requests, under two names, and by limits."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope of a quota: it counts only pods for which every scope holds."""

    name: str
    operator: str = "Exists"
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
    """A ResourceQuota."""

    name: str
    hard: Amounts = field(default_factory=dict)
    used: Amounts = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What the namespace of an object allows."""

    quotas: tuple[Quota, ...] = ()
    ranges: tuple[LimitItem, ...] = ()


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True)
class Lack:
    """Why the namespace admits no further replica."""

    reason: str
    """Of the catalogue."""
    sentence: str
    """What a replica does or needs, and what stands against it."""


def counted(resources: Resources) -> dict[str, Fraction]:
    """What a pod counts for in quotas, by the names that these have for it."""
    found = {"pods": Fraction(1), "count/pods": Fraction(1)}
    for name, amount in resources.requests.items():
        found[f"requests.{name}"] = amount
        if name in BOTH_WAYS:
            found[name] = amount
    for name, amount in resources.limits.items():
        if name in BOTH_WAYS:
            found[f"limits.{name}"] = amount
    return found


def matches(quota: Quota, resources: Resources) -> bool:
    """Whether a quota counts an engine pod."""
    return all(_in_scope(scope, resources) for scope in quota.scopes)


def _in_scope(scope: Scope, resources: Resources) -> bool:
    best_effort = not any(
        amounts.get(name) for amounts in (resources.requests, resources.limits) for name in COMPUTE
    )
    match scope.name:
        case "NotTerminating":
            # An engine pod has no deadline.
            return True
        case "BestEffort":
            return best_effort
        case "NotBestEffort":
            return not best_effort
        case "PriorityClass":
            return _selects(scope, resources.priority_class)
        case _:
            return False


def _selects(scope: Scope, priority_class: str) -> bool:
    match scope.operator:
        case "In":
            return priority_class in scope.values
        case "NotIn":
            return priority_class not in scope.values
        case "DoesNotExist":
            return not priority_class
        case _:
            return bool(priority_class)


class Allowance:
    """What the namespace still admits while one plan is made. Every new replica takes from it."""

    def __init__(self, limits: Limits = UNLIMITED) -> None:
        self._limits = limits
        self._taken: dict[tuple[str, str], Fraction] = {}

    @property
    def limits(self) -> Limits:
        """The limits, with everything taken as used."""
        quotas = tuple(
            replace(one, used={name: self._used(one, name) for name in one.hard})
            for one in self._limits.quotas
        )
        return replace(self._limits, quotas=quotas)

    def _used(self, quota: Quota, name: str) -> Fraction:
        taken = self._taken.get((quota.name, name), Fraction(0))
        return quota.used.get(name, Fraction(0)) + taken

    def copy(self) -> Allowance:
        """An independent account, for questions that must not take anything."""
        twin = Allowance(self._limits)
        twin._taken = dict(self._taken)
        return twin

    def take(self, resources: Resources) -> None:
        """Count a new replica."""
        self._count(defaulted(resources, self._limits.ranges), 1)

    def release(self, resources: Resources) -> None:
        """Count a replica no more: to ask what would be possible if it were gone.

        `resources` are those of its pod, which has every default in it.
        """
        self._count(resources, -1)

    def _count(self, resources: Resources, sign: int) -> None:
        for quota, name, amount in self._counts(resources):
            place = quota.name, name
            self._taken[place] = self._taken.get(place, Fraction(0)) + sign * amount

    def _counts(self, resources: Resources) -> Iterator[tuple[Quota, str, Fraction]]:
        """Every limit of a quota that a pod counts against, and how much it counts for."""
        amounts = counted(resources)
        for quota in self._limits.quotas:
            if matches(quota, resources):
                for name in quota.hard:
                    if amounts.get(name):
                        yield quota, name, amounts[name]

    def lack(self, resources: Resources) -> Lack | None:
        """Why one more replica is not admitted; None where it is."""
        if self._limits == UNLIMITED:
            return None
        whole = defaulted(resources, self._limits.ranges)
        outside = range_refusal(whole, self._limits.ranges)
        if outside:
            return Lack(reasons.OUTSIDE_LIMIT_RANGE, outside)
        sentence = self._unnamed(whole) or self._exceeded(whole)
        return Lack(reasons.QUOTA_EXCEEDED, sentence) if sentence else None

    def _unnamed(self, resources: Resources) -> str:
        """The server wants every container to name the CPU and memory that a quota counts."""
        amounts = counted(resources)
        names = {f"{part}{name}" for part in ("", "requests.", "limits.") for name in COMPUTE}
        for quota in self._limits.quotas:
            missing = sorted((quota.hard.keys() & names) - amounts.keys())
            if missing and matches(quota, resources):
                return (
                    f"sets no {missing[0]}, which quota {quota.name} counts: give the namespace"
                    " a LimitRange with a default for it"
                )
        return ""

    def _exceeded(self, resources: Resources) -> str:
        for quota, name, amount in self._counts(resources):
            used, hard = self._used(quota, name), quota.hard[name]
            planned = max(Fraction(0), used - quota.used.get(name, Fraction(0)))
            if used + amount > hard:
                allows = f"quota {quota.name} allows {text(hard)}"
                more = f" and {text(planned)} planned for others" if planned else ""
                taken = f"of which {text(used - planned)} are used{more}"
                return f"needs {text(amount)} {name}, and {allows}, {taken}"
        return ""
