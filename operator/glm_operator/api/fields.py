"""Bounded types that the object's fields are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

DNS_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
"""A DNS subdomain, or empty."""
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""The name of a label or taint, with or without a domain."""
KEY_LIMIT = 317
"""Longest name of a label or taint: a domain of 253 characters and a name of 63."""
RULE_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUANTITY = r"^([0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?)?$"
"""A Kubernetes quantity, or empty."""

ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
BY_NAME: dict[str, Any] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["name"],
}
BY_TYPE: dict[str, Any] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["type"],
}
ATOMIC_MAP: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the API server demands of sets, and of lists with a key."""
    keys = [getattr(value, "name", value) for value in values]
    doubled = next((key for key in keys if keys.count(key) > 1), None)
    if doubled is not None:
        raise ValueError(f"{doubled} is there more than once")
    return values


EachOnce = AfterValidator(_each_once)
"""Of a list of strings, or of items that have a name."""

Argument = Annotated[str, Field(min_length=1, max_length=1024)]
HeaderValue = Annotated[str, Field(min_length=1, max_length=256)]
RuleName = Annotated[str, Field(min_length=1, max_length=63, pattern=RULE_NAME)]
ClientName = Annotated[str, Field(min_length=1, max_length=128)]
DnsName = Annotated[str, Field(max_length=253, pattern=DNS_NAME)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
MediaDomain = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        # Labels as hosts have them; the last begins with a letter, so that no address is one.
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z]([-a-z0-9]*[a-z0-9])?$",
    ),
]
NodeName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
Quantity = Annotated[str, Field(max_length=32, pattern=QUANTITY)]
