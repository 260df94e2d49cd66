"""API keys from a Secret, watched."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.keys import Entries, read_entries
from glm_serving.gateway.kube import ApiServer, KubeError
from glm_serving.gateway.renewing import Renewing
from glm_serving.gateway.watch import Objects, Watch

log = logging.getLogger("glm_gateway")


class _Secret(msgspec.Struct):
    data: dict[str, bytes] | None = None


class SecretKeys:
    """Follows the Secret that the configuration names.

    What was read last stays while the API server is away, and while the Secret of a new name does
    not exist. A Secret that is deleted takes its keys with it.
    """

    def __init__(
        self, server: ApiServer, namespace: str, gateway: Gateway, random: Callable[[], float]
    ) -> None:
        self._server = server
        self._namespace = namespace
        self._gateway = gateway
        self._random = random
        self._seen = ""
        """The name under which there was a Secret."""
        self._name = Renewing("", self._watch)

    def follow(self, name: str) -> None:
        """Watch the Secret of this name from now on; empty: none."""
        self._name.change(name)

    async def run(self) -> None:
        """Watch, for ever."""
        await self._name.run()

    async def _watch(self, name: str) -> None:
        if not name:
            return
        path = f"/api/v1/namespaces/{self._namespace}/secrets"
        query = {"fieldSelector": f"metadata.name={name}"}
        await Watch(self._server, path, query, self._changed, self._failed, self._random).run()

    def _changed(self, objects: Objects) -> None:
        name = self._name.value
        raw = objects.get(name)
        if raw is not None:
            self._seen = name
            self._gateway.take_keys(self._read(raw))
            return
        trouble = f"Secret {self._namespace}/{name} does not exist"
        if self._seen == name:
            self._gateway.take_keys(Entries(None, (trouble,)))
        else:
            self._gateway.keys_not_read(trouble)

    def _read(self, raw: msgspec.Raw) -> Entries:
        return read_entries(msgspec.json.decode(raw, type=_Secret).data or {})

    def _failed(self, error: KubeError) -> None:
        self._gateway.metrics.watch_errors.add(("secrets",))
        self._gateway.keys_not_read(f"Secret {self._namespace}/{self._name.value}: {error}")
