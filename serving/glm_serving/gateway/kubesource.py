"""Configuration from a ConfigMap, replicas from EndpointSlices, API keys from a Secret: watched."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import msgspec

from glm_serving.gateway import endpoints
from glm_serving.gateway.config import Config, parse
from glm_serving.gateway.errors import ConfigError
from glm_serving.gateway.gateway import Gateway
from glm_serving.gateway.kube import ApiServer, KubeError
from glm_serving.gateway.renewing import Renewing
from glm_serving.gateway.secretkeys import SecretKeys
from glm_serving.gateway.watch import Objects, Watch

log = logging.getLogger("glm_gateway")

CONFIG_KEY = "config.json"


class _ConfigMap(msgspec.Struct):
    data: dict[str, str] = {}


class KubernetesSource:
    """One ConfigMap, the EndpointSlices of the services and the Secret that it names."""

    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        name: str,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._namespace = namespace
        self._name = name
        self._random = random
        self._config: Config | None = None
        self._configured = asyncio.Event()
        self._gateway: Gateway | None = None
        self._services: Renewing[frozenset[str]] = Renewing(frozenset(), self._watch_services)
        self._keys: SecretKeys | None = None
        self._listed = False
        self._watching: asyncio.Task[None] | None = None

    async def first(self) -> Config:
        """Wait for a usable configuration."""
        self._watching = asyncio.create_task(self._watch_config())
        await self._configured.wait()
        assert self._config is not None
        return self._config

    async def follow(self, gateway: Gateway) -> None:
        """Apply every change, for ever."""
        assert self._watching is not None
        self._gateway = gateway
        self._keys = SecretKeys(self._server, self._namespace, gateway, self._random)
        self._apply()
        try:
            await asyncio.gather(self._watching, self._services.run(), self._keys.run())
        finally:
            self._watching.cancel()

    def not_ready(self) -> str:
        """Not before the replicas were listed once: held requests would wait for no reason."""
        if self._gateway is None:
            return "the configuration is not applied yet"
        return "" if self._listed or not self._services.value else "endpoints are not listed yet"

    async def _watch_config(self) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/configmaps"
        query = {"fieldSelector": f"metadata.name={self._name}"}
        failed = self._failure("configmaps")
        await Watch(self._server, path, query, self._config_changed, failed, self._random).run()

    def _config_changed(self, objects: Objects) -> None:
        raw = objects.get(self._name)
        if raw is None:
            log.warning("ConfigMap %s/%s does not exist", self._namespace, self._name)
            return
        try:
            config = _config_in(raw)
        except ConfigError as error:
            log.error("ConfigMap %s/%s is not used: %s", self._namespace, self._name, error)
            if self._gateway is not None:
                self._gateway.metrics.config_errors.add()
            return
        self._config = config
        self._configured.set()
        if self._gateway is not None:
            self._apply()

    def _apply(self) -> None:
        assert self._gateway is not None
        assert self._keys is not None
        assert self._config is not None
        if self._config is not self._gateway.config:
            log.info("configuration of generation %d", self._config.generation)
            self._gateway.apply(self._config)
        tiers = self._config.tiers.values()
        services = {tier.service for tier in tiers} | {self._config.gateway_service}
        if self._services.change(frozenset(services - {""})):
            self._listed = False
        self._keys.follow(self._config.auth.api_keys_secret)

    async def _watch_services(self, services: frozenset[str]) -> None:
        if not services:
            return
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices"
        query = {"labelSelector": f"{endpoints.SERVICE_LABEL} in ({','.join(sorted(services))})"}
        failed = self._failure("endpointslices")
        await Watch(self._server, path, query, self._slices_changed, failed, self._random).run()

    def _slices_changed(self, objects: Objects) -> None:
        assert self._gateway is not None
        try:
            replicas = endpoints.ready_replicas(objects.values())
        except msgspec.DecodeError as error:
            log.error("an EndpointSlice cannot be read, endpoints stay: %s", error)
            return
        self._listed = True
        self._gateway.set_service_endpoints(replicas)

    def _failure(self, resource: str) -> Callable[[KubeError], None]:
        def failed(error: KubeError) -> None:
            log.warning("watch of %s: %s", resource, error)
            if self._gateway is not None:
                self._gateway.metrics.watch_errors.add((resource,))

        return failed


def _config_in(raw: msgspec.Raw) -> Config:
    try:
        text = msgspec.json.decode(raw, type=_ConfigMap).data.get(CONFIG_KEY)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the ConfigMap cannot be read: {error}") from error
    if text is None:
        raise ConfigError(f"key {CONFIG_KEY} is missing")
    return parse(text.encode())
