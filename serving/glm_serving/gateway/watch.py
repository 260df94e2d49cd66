"""A list kept true by a watch, through errors and restarts of the API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from glm_serving.gateway import kube
from glm_serving.gateway.kube import ApiServer, KubeError

LIST_SECONDS = 30.0
WATCH_SECONDS = 240
"""The API server ends a watch after this; a new one goes on where it stopped."""
SILENCE_SECONDS = WATCH_SECONDS + 30.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0

Objects = Mapping[str, msgspec.Raw]
"""Name -> object."""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    resource_version: str = ""


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _List(msgspec.Struct):
    metadata: _Metadata
    items: list[msgspec.Raw]


class _StatusObject(msgspec.Struct):
    code: int = 0
    message: str = ""


class Watch:
    """Follows the objects at one path and hands over all of them after each change.

    While the API server is away, what was seen last stays.
    """

    def __init__(
        self,
        server: ApiServer,
        path: str,
        query: Mapping[str, str],
        changed: Callable[[Objects], None],
        failed: Callable[[KubeError], None],
        random: Callable[[], float],
    ) -> None:
        self._server = server
        self._path = path
        self._query = dict(query)
        self._changed = changed
        self._failed = failed
        self._random = random
        self._objects: dict[str, msgspec.Raw] = {}
        self._version = ""
        self._pause = FIRST_PAUSE

    async def run(self) -> None:
        """List and watch for ever; each failure is reported and followed by a pause."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
                await asyncio.sleep(FIRST_PAUSE * self._random())
            except KubeError as error:
                self._failed(error)
                if error.status != 0:
                    # What the server refused may be the version, as with 410 Gone: list again.
                    self._version = ""
                await asyncio.sleep(self._pause * (0.5 + self._random()))
                self._pause = min(self._pause * 2, LONGEST_PAUSE)

    async def _list(self) -> None:
        data = await kube.get(self._server, self._path, self._query, LIST_SECONDS)
        found = _decode(data, _List)
        self._objects = {_decode(item, _Object).metadata.name: item for item in found.items}
        self._version = found.metadata.resource_version
        self._pause = FIRST_PAUSE
        self._changed(self._objects)

    async def _follow(self) -> None:
        query = self._query | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        events = kube.lines(self._server, self._path, query, SILENCE_SECONDS)
        async with contextlib.aclosing(events):
            async for line in events:
                self._take(_decode(line, _Event))

    def _take(self, event: _Event) -> None:
        if event.type == "ERROR":
            status = _decode(event.object, _StatusObject)
            raise KubeError(f"{self._path}: {status.message}", status.code)
        metadata = _decode(event.object, _Object).metadata
        self._version = metadata.resource_version
        self._pause = FIRST_PAUSE
        if event.type == "BOOKMARK":
            return
        if event.type == "DELETED":
            self._objects.pop(metadata.name, None)
        else:
            self._objects[metadata.name] = event.object
        self._changed(self._objects)


def _decode(data: bytes | msgspec.Raw, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise KubeError(f"the API server's answer cannot be read: {error}") from error
