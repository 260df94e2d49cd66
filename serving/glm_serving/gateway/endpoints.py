"""EndpointSlices -> the ready replicas of each service."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from glm_serving.gateway.config import Address

SERVICE_LABEL = "kubernetes.io/service-name"
DEFAULT_PORT = 8000
"""Of the engines, where a slice names no port."""
PORT_NAME = "http"
"""The port that is taken where a slice has several."""


class _Metadata(msgspec.Struct):
    labels: dict[str, str] = {}


class _Conditions(msgspec.Struct, frozen=True):
    ready: bool | None = None


class _Target(msgspec.Struct):
    name: str = ""


class _Endpoint(msgspec.Struct, rename="camel"):
    addresses: list[str]
    conditions: _Conditions = _Conditions()
    target_ref: _Target | None = None


class _Port(msgspec.Struct):
    name: str | None = None
    port: int | None = None


class _Slice(msgspec.Struct):
    metadata: _Metadata
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


_decoder = msgspec.json.Decoder(_Slice)


def ready_replicas(slices: Iterable[msgspec.Raw]) -> dict[str, dict[str, Address]]:
    """Service -> replica name -> address, of ready endpoints only.

    A replica is named by its pod (`targetRef.name`), or by its address without one. A service
    with slices but without a ready endpoint has an empty entry.

    Raises:
        msgspec.DecodeError: a slice has another shape.
    """
    services: dict[str, dict[str, Address]] = {}
    for raw in slices:
        found = _decoder.decode(raw)
        replicas = services.setdefault(found.metadata.labels.get(SERVICE_LABEL, ""), {})
        port = _port(found.ports or [])
        for endpoint in found.endpoints or []:
            # An absent condition means ready, says the API.
            if endpoint.conditions.ready is False or not endpoint.addresses:
                continue
            address = Address(endpoint.addresses[0], port)
            name = endpoint.target_ref.name if endpoint.target_ref else ""
            replicas[name or str(address)] = address
    return services


def _port(ports: list[_Port]) -> int:
    named = [p.port for p in ports if p.port and p.name == PORT_NAME]
    given = named or [p.port for p in ports if p.port]
    return given[0] if given else DEFAULT_PORT
