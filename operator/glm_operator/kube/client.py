"""The API server as the rest of the operator sees it: a Protocol, and its one implementation."""

from __future__ import annotations

import asyncio
import random as random_module
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from glm_operator.kube.errors import RETRIABLE, KubeError, NotFoundError
from glm_operator.kube.resources import POD, Resource, resource_of
from glm_operator.kube.retry import CALLS, Backoff, Random
from glm_operator.kube.transport import Request, Transport

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
PAGE = "500"
"""Objects per page of a list: bounds the memory of one answer."""

Manifest = Mapping[str, Any]


class Cluster(Protocol):
    """What the operator may ask of the API server. Every failure is one of `kube.errors`."""

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Read one object, live."""
        ...

    async def find(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Read all objects of a namespace (all namespaces when empty), live."""
        ...

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object, or with `dry_run` only go through everything that may refuse it."""
        ...

    async def update(self, manifest: Manifest) -> dict[str, Any]:
        """Replace an object, guarded by the manifest's resourceVersion."""
        ...

    async def apply(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        """Server-side apply; takes over fields that somebody else set."""
        ...

    async def apply_status(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        """Server-side apply of the status subresource."""
        ...

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Manifest
    ) -> dict[str, Any]:
        """Merge-patch an object. A `metadata.uid` in the body guards it."""
        ...

    async def patch_pod_status(self, namespace: str, name: str, body: Manifest) -> dict[str, Any]:
        """Patch a pod's status; conditions merge by type. `metadata.uid` guards it."""
        ...

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object, guarded by its uid. One that is gone already is no error."""
        ...

    def close(self) -> None:
        """Take no more calls."""
        ...


def never_fenced() -> None:
    """The fence of a process that needs no Lease: it lets every write through."""


class KubernetesCluster:
    """`Cluster` over HTTP: a bounded pool of threads, bounded retries, a fence before writes.

    Args:
        transport: sends one request.
        fence: called before every write; raises LeaseLostError when this process must not write.
        workers: calls in flight at the same time.
        backoff: delays between attempts of one call.
        random: returns a number in [0, 1).
    """

    def __init__(
        self,
        transport: Transport,
        *,
        fence: Callable[[], None] = never_fenced,
        workers: int = 16,
        backoff: Backoff = CALLS,
        random: Random = random_module.random,
    ) -> None:
        self._transport = transport
        self._fence = fence
        self._backoff = backoff
        self._random = random
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="api")

    def close(self) -> None:
        """Stop taking calls; those under way end by their own time-outs."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def get(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        """Read one object, live."""
        path = resource.path(namespace, name)
        return await self._call(Request(_what("get", resource, namespace, name), "GET", path))

    async def find(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """Read all objects, in pages, without a resource version: the most recent state."""
        what, path = _what("list", resource, namespace, ""), resource.path(namespace)
        items: list[dict[str, Any]] = []
        token = ""
        while True:
            query = list_query(labels, fields, token)
            answer = await self._call(Request(what, "GET", path, query))
            items += answer.get("items") or []
            token = answer.get("metadata", {}).get("continue", "")
            if not token:
                return items

    async def create(self, manifest: Manifest, *, dry_run: bool = False) -> dict[str, Any]:
        """Create an object. Repeated after a lost answer it may say AlreadyExists."""
        resource, namespace, name = _address(manifest)
        verb, query = ("try", (("dryRun", "All"),)) if dry_run else ("create", ())
        what, path = _what(verb, resource, namespace, name), resource.path(namespace)
        return await self._call(Request(what, "POST", path, query, manifest))

    async def update(self, manifest: Manifest) -> dict[str, Any]:
        """Replace an object, guarded by the manifest's resourceVersion."""
        resource, namespace, name = _address(manifest)
        what, path = _what("update", resource, namespace, name), resource.path(namespace, name)
        return await self._call(Request(what, "PUT", path, body=manifest))

    async def apply(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        """Server-side apply; takes over fields that somebody else set."""
        return await self._apply(manifest, manager, "")

    async def apply_status(self, manifest: Manifest, manager: str) -> dict[str, Any]:
        """Server-side apply of the status subresource."""
        return await self._apply(manifest, manager, "status")

    async def _apply(self, manifest: Manifest, manager: str, subresource: str) -> dict[str, Any]:
        resource, namespace, name = _address(manifest)
        what = _what(f"apply {subresource}".rstrip(), resource, namespace, name)
        path = resource.path(namespace, name, subresource)
        query = (("fieldManager", manager), ("force", "true"))
        return await self._call(Request(what, "PATCH", path, query, manifest, APPLY))

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Manifest
    ) -> dict[str, Any]:
        """Merge-patch an object. A `metadata.uid` in the body guards it."""
        what, path = _what("patch", resource, namespace, name), resource.path(namespace, name)
        return await self._call(Request(what, "PATCH", path, (), body, MERGE))

    async def patch_pod_status(self, namespace: str, name: str, body: Manifest) -> dict[str, Any]:
        """Patch a pod's status; conditions merge by type. `metadata.uid` guards it."""
        what, path = (
            _what("patch status", POD, namespace, name),
            POD.path(namespace, name, "status"),
        )
        return await self._call(Request(what, "PATCH", path, (), body, STRATEGIC_MERGE))

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object, guarded by its uid. One that is gone already is no error."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid:
            body["preconditions"] = {"uid": uid}
        if grace_seconds is not None:
            body["gracePeriodSeconds"] = grace_seconds
        what, path = _what("delete", resource, namespace, name), resource.path(namespace, name)
        try:
            await self._call(Request(what, "DELETE", path, body=body))
        except NotFoundError:
            return

    async def _call(self, request: Request) -> dict[str, Any]:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(self._pool, self._send, request)
            except RETRIABLE as error:
                failures += 1
                if self._backoff.is_spent(failures):
                    raise
                await asyncio.sleep(self._delay(failures, error))

    def _send(self, request: Request) -> dict[str, Any]:
        if request.method != "GET":
            self._fence()
        return self._transport.send(request)

    def _delay(self, failures: int, error: KubeError) -> float:
        return self._backoff.delay(failures, self._random, error.retry_after)


def list_query(labels: str = "", fields: str = "", token: str = "") -> list[tuple[str, str]]:
    """The query of one page of a list."""
    query = [("limit", PAGE)]
    query += [("labelSelector", labels)] if labels else []
    query += [("fieldSelector", fields)] if fields else []
    query += [("continue", token)] if token else []
    return query


def _address(manifest: Manifest) -> tuple[Resource, str, str]:
    metadata = manifest["metadata"]
    return resource_of(manifest), metadata.get("namespace", ""), metadata["name"]


def _what(verb: str, resource: Resource, namespace: str, name: str) -> str:
    place = "/".join(part for part in (namespace, name) if part)
    return f"{verb} {resource.kind} {place}".rstrip()
