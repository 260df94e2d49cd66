"""Quotas, limit ranges and what pods ask for, from the dicts of the API server. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

from glm_operator.api.quantities import amounts
from glm_operator.plan.limits import LimitItem, Resources
from glm_operator.plan.quota import Limits, Quota, Scope

Raw = Mapping[str, Any]


def limits_of(quotas: Iterable[Raw], ranges: Iterable[Raw]) -> Limits:
    """What a namespace allows, by name, so that the same limits give the same sentences."""
    found = sorted((quota_of(one) for one in quotas), key=lambda quota: quota.name)
    items = (item for one in ranges for item in items_of(one))
    return Limits(tuple(found), tuple(sorted(items, key=lambda item: (item.name, item.kind))))


def quota_of(quota: Raw) -> Quota:
    """A ResourceQuota. What its status says counts; it is empty for the first moment only."""
    spec, status = quota.get("spec") or {}, quota.get("status") or {}
    selector = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    plain = tuple(Scope(name) for name in spec.get("scopes") or ())
    return Quota(
        name=quota["metadata"]["name"],
        hard=amounts(status.get("hard") or spec.get("hard") or {}),
        used=amounts(status.get("used") or {}),
        scopes=plain + tuple(_scope(one) for one in selector),
    )


def _scope(expression: Raw) -> Scope:
    values = tuple(expression.get("values") or ())
    return Scope(expression["scopeName"], expression["operator"], values)


def items_of(limit_range: Raw) -> Iterator[LimitItem]:
    """The items of a LimitRange that concern pods."""
    name = limit_range["metadata"]["name"]
    for limit in (limit_range.get("spec") or {}).get("limits") or ():
        if limit["type"] in ("Container", "Pod"):
            yield _item(name, limit)


def _item(name: str, limit: Raw) -> LimitItem:
    """The API server stores a container's defaults whole; files that people write have gaps."""
    least, most = amounts(limit.get("min") or {}), amounts(limit.get("max") or {})
    limits = amounts(limit.get("default") or {})
    requests = amounts(limit.get("defaultRequest") or {})
    if limit["type"] == "Container":
        limits = most | limits
        requests = least | limits | requests
    ratios = amounts(limit.get("maxLimitRequestRatio") or {})
    return LimitItem(name, limit["type"], least, most, ratios, requests, limits)


def resources_of(pod: Raw) -> Resources:
    """What a pod asks for with all its containers; where it only limits, that much."""
    spec = pod.get("spec") or {}
    requests: dict[str, Fraction] = {}
    limits: dict[str, Fraction] = {}
    for container in spec.get("containers") or ():
        asked = container.get("resources") or {}
        _add(limits, amounts(asked.get("limits") or {}))
        _add(requests, amounts({**(asked.get("limits") or {}), **(asked.get("requests") or {})}))
    return Resources(requests, limits, str(spec.get("priorityClassName") or ""))


def _add(total: dict[str, Fraction], more: Mapping[str, Fraction]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, Fraction(0)) + amount
