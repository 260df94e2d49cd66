"""What a namespace's LimitRanges make of an engine pod, and why they would refuse it.

The rules are those of the API server's LimitRanger (kubernetes/kubernetes,
plugin/pkg/admission/limitranger): first its defaults fill in what a container leaves out, then
every item is checked. An engine pod has one container, so a pod's sums are the container's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from glm_operator.api.quantities import text

Amounts = Mapping[str, Fraction]
"""Amounts by resource name: CPU in cores, memory in bytes, everything else in units."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one pod asks for."""

    requests: Amounts = field(default_factory=dict)
    limits: Amounts = field(default_factory=dict)
    priority_class: str = ""


UNTOLD = Resources()
"""Of a pod whose requests are not known."""


@dataclass(frozen=True, slots=True)
class LimitItem:
    """One item of a LimitRange, as the API server stores it: its own defaults filled in."""

    name: str
    """Of the LimitRange."""
    kind: str
    """What it limits: Container or Pod."""
    least: Amounts = field(default_factory=dict)
    most: Amounts = field(default_factory=dict)
    ratios: Amounts = field(default_factory=dict)
    """How many times its request a limit may be."""
    requests: Amounts = field(default_factory=dict)
    """For containers that request nothing."""
    limits: Amounts = field(default_factory=dict)
    """For containers without a limit."""


def defaulted(resources: Resources, items: Iterable[LimitItem]) -> Resources:
    """What a pod asks for once the LimitRanges have filled in what it leaves out."""
    requests, limits = dict(resources.requests), dict(resources.limits)
    for item in items:
        requests = {**item.requests, **requests}
        limits = {**item.limits, **limits}
    return Resources(requests, limits, resources.priority_class)


def range_refusal(resources: Resources, items: Iterable[LimitItem]) -> str:
    """Why LimitRanges refuse a pod, as what a replica does; empty: they do not.

    `resources` are those of `defaulted`.
    """
    return next((sentence for item in items for sentence in _refusals(resources, item)), "")


def _refusals(resources: Resources, item: LimitItem) -> Iterator[str]:
    for name, least in item.least.items():
        yield from _too_little(name, least, resources, item)
    for name, most in item.most.items():
        yield from _too_much(name, most, resources, item)
    for name, ratio in item.ratios.items():
        yield from _too_far_apart(name, ratio, resources, item)
    for name, limit in item.limits.items():
        request = resources.requests.get(name, limit)
        if request > resources.limits.get(name, limit):
            default = f"LimitRange {item.name} gives a container without one a limit"
            yield f"requests {text(request)} of {name}, and {default} of {text(limit)}"


def _too_little(name: str, least: Fraction, resources: Resources, item: LimitItem) -> Iterator[str]:
    asks = f"LimitRange {item.name} asks of each {item.kind} at least {text(least)}"
    request, limit = resources.requests.get(name), resources.limits.get(name)
    if request is None:
        yield f"requests no {name}, and {asks}"
    elif request < least:
        yield f"requests {text(request)} of {name}, and {asks}"
    elif limit is not None and limit < least:
        yield f"has a limit of {text(limit)} of {name}, and {asks}"


def _too_much(name: str, most: Fraction, resources: Resources, item: LimitItem) -> Iterator[str]:
    allows = f"LimitRange {item.name} allows each {item.kind} at most {text(most)}"
    limit = resources.limits.get(name)
    request = resources.requests.get(name, Fraction(0))
    if limit is None:
        yield f"has no limit of {name}, and {allows}: give a Container a default limit of it there"
    elif max(limit, request) > most:
        yield f"asks for {text(max(limit, request))} of {name}, and {allows}"


def _too_far_apart(
    name: str, ratio: Fraction, resources: Resources, item: LimitItem
) -> Iterator[str]:
    request, limit = resources.requests.get(name), resources.limits.get(name)
    wants = f"LimitRange {item.name} wants a limit of at most {text(ratio)} times the request"
    if not request or not limit:
        yield f"has no {'limit' if request else 'request'} of {name}, and {wants}"
    elif limit > ratio * request:
        yield f"requests {text(request)} of {name} with a limit of {text(limit)}, and {wants}"
