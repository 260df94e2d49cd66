"""List and watch one kind in a thread of its own, trimming every object as it arrives.

For what is needed of the whole cluster (nodes and the pods that hold GPUs), where keeping the
objects themselves would cost gigabytes.
"""

from __future__ import annotations

import logging
import random as random_module
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from glm_operator.kube.client import list_query
from glm_operator.kube.errors import ExpiredError, KubeError, from_watch
from glm_operator.kube.resources import Resource
from glm_operator.kube.retry import STREAMS, Backoff, Random
from glm_operator.kube.transport import Request

logger = logging.getLogger(__name__)

SERVER_SECONDS = 290
"""The server ends a watch after this; it is continued where it was."""
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute: a stream silent for longer is dead."""

Item = TypeVar("Item")
Key = tuple[str, str]
"""(namespace, name); the namespace is empty for cluster-scoped kinds."""


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[Item]):
    """Everything there is, after a list."""

    items: Mapping[Key, Item]


@dataclass(frozen=True, slots=True)
class Put(Generic[Item]):
    """One object is new or changed."""

    key: Key
    item: Item


@dataclass(frozen=True, slots=True)
class Gone:
    """One object was deleted, or is no longer one that we keep."""

    key: Key


@dataclass(frozen=True, slots=True)
class Heard:
    """The stream is alive; nothing changed."""


Change = Snapshot[Item] | Put[Item] | Gone | Heard


class Source(Protocol):
    """What a watch needs of the transport."""

    def send(self, request: Request) -> dict[str, Any]:
        """Send one request and return the decoded answer."""
        ...

    def lines(self, request: Request, read_seconds: float) -> Iterator[Mapping[str, Any]]:
        """Stream the JSON lines of a watch."""
        ...


class Watch(Generic[Item]):
    """Follows one kind until stopped. Changes are delivered in order, from the watch's thread.

    Args:
        source: sends requests.
        resource: the kind to follow, in all namespaces.
        trim: what to keep of an object; None to keep nothing of it. An object for which it fails
            is left out of a list, and in the stream what it was before stays.
        deliver: receives every change.
        fields: a field selector; an object that leaves it arrives as Gone.
        labels: a label selector, likewise.
        random: returns a number in [0, 1).
    """

    def __init__(
        self,
        source: Source,
        resource: Resource,
        trim: Callable[[Mapping[str, Any]], Item | None],
        deliver: Callable[[Change[Item]], None],
        *,
        fields: str = "",
        labels: str = "",
        backoff: Backoff = STREAMS,
        random: Random = random_module.random,
    ) -> None:
        self._source = source
        self._resource = resource
        self._trim = trim
        self._deliver = deliver
        self._fields = fields
        self._labels = labels
        self._backoff = backoff
        self._random = random
        self._stop = threading.Event()
        self._failures = 0
        self._what = f"watch {resource.plural}"

    def start(self) -> None:
        """Run in a daemon thread: a process that ends does not wait for an open stream."""
        threading.Thread(target=self.run, name=self._what, daemon=True).start()

    def stop(self) -> None:
        """Deliver nothing any more; the thread ends with its present request."""
        self._stop.set()

    def run(self) -> None:
        """List, then follow; list again when the place is lost, later after failures."""
        while not self._stop.is_set():
            try:
                self._follow(self._list())
            except ExpiredError:
                logger.info("%s: the place in the stream is lost, listing again", self._what)
                self._pause()
            except KubeError as error:
                logger.warning("%s: %s", self._what, error)
                self._pause(error.retry_after)
            except Exception:
                # A thread that ended here would leave the operator blind for ever.
                logger.exception("%s: failed unexpectedly, listing again", self._what)
                self._pause()

    def _pause(self, asked: float | None = None) -> None:
        self._failures += 1
        self._stop.wait(self._backoff.delay(self._failures, self._random, asked))

    def _list(self) -> str:
        """Deliver a snapshot and return the resource version that a watch continues from."""
        items: dict[Key, Item] = {}
        token = ""
        while True:
            query = list_query(self._labels, self._fields, token)
            request = Request(self._what, "GET", self._resource.path(), query)
            answer = self._source.send(request)
            for raw in answer.get("items") or ():
                change = self._change(raw)
                if isinstance(change, Put):
                    items[change.key] = change.item
            metadata = answer.get("metadata", {})
            token = metadata.get("continue", "")
            if not token:
                break
        self._emit(Snapshot(items))
        return str(metadata.get("resourceVersion", ""))

    def _follow(self, version: str) -> None:
        while not self._stop.is_set():
            heard = False
            for event in self._source.lines(self._request(version), SILENCE_SECONDS):
                version = self._take(event)
                heard, self._failures = True, 0
                if self._stop.is_set():
                    return
            if not heard:
                # A stream that ends at once, again and again, must not become a busy loop.
                self._pause()

    def _request(self, version: str) -> Request:
        query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", str(SERVER_SECONDS)),
        ]
        query += [("fieldSelector", self._fields)] if self._fields else []
        query += [("labelSelector", self._labels)] if self._labels else []
        return Request(self._what, "GET", self._resource.path(), query)

    def _take(self, event: Mapping[str, Any]) -> str:
        """Deliver one event and return the resource version after it."""
        kind, raw = event["type"], event["object"]
        if kind == "ERROR":
            raise from_watch(self._what, raw)
        if kind == "BOOKMARK":
            self._emit(Heard())
        elif kind == "DELETED":
            self._emit(Gone(key_of(raw)))
        else:
            self._emit(self._change(raw))
        return str(raw["metadata"]["resourceVersion"])

    def _change(self, raw: Mapping[str, Any]) -> Change[Item]:
        """What an object that exists means; one that cannot be read tells nothing new."""
        key = key_of(raw)
        try:
            item = self._trim(raw)
        except Exception:
            # One object must not hide all others.
            logger.exception("%s: %s cannot be read and is left out", self._what, "/".join(key))
            return Heard()
        return Gone(key) if item is None else Put(key, item)

    def _emit(self, change: Change[Item]) -> None:
        if not self._stop.is_set():
            self._deliver(change)


def key_of(raw: Mapping[str, Any]) -> Key:
    """Namespace and name of an object."""
    metadata = raw["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
