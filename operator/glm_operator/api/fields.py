"""Bounded types that the object's fields are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

DNS_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"
"""A DNS subdomain, or empty."""
LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
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

Argument = Annotated[str, Field(min_length=1, max_length=1024)]
ClientName = Annotated[str, Field(min_length=1, max_length=128)]
DnsName = Annotated[str, Field(max_length=253, pattern=DNS_NAME)]
LabelValue = Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)]
NodeName = Annotated[str, Field(min_length=1, max_length=253, pattern=DNS_NAME)]
Quantity = Annotated[str, Field(max_length=32, pattern=QUANTITY)]
