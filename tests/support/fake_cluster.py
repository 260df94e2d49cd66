"""The API server's `Cluster` Protocol in memory, and a proxy that fails at the n-th write.

It knows what reconcile passes rely on: uids, names that are taken until an object is gone,
preconditions, label and field selectors, conditions that merge by type, and who owns what. It
validates nothing: for schemas and real server-side apply there is the real API server.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.errors import (
    AlreadyExistsError,
    ConflictError,
    KubeError,
    NotFoundError,
    UnavailableError,
)
from glm_operator.kube.resources import DEPLOYMENT_OBJECT, NODE, POD, Resource, resource_of
from glm_operator.plan import times

Raw = dict[str, Any]
Place = tuple[str, str, str]
"""(kind, namespace, name)."""


@dataclass(frozen=True)
class Write:
    """One successful write."""

    verb: str
    kind: str
    name: str


@dataclass
class FakeCluster:
    """Objects by place. `before_write` may raise to refuse a write."""

    now: float = 1_700_000_000.0
    objects: dict[Place, Raw] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    before_write: Callable[[str, Raw], None] = lambda verb, manifest: None
    lingering: bool = False
    """Whether a deleted pod stays Terminating until `finish_deletions`."""
    _count: int = 0

    # Reading.

    async def get(self, resource: Resource, namespace: str, name: str) -> Raw:
        return copy.deepcopy(self._live(resource, namespace, name))

    async def find(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[Raw]:
        return [
            copy.deepcopy(item)
            for (kind, place, _), item in sorted(self.objects.items())
            if kind == resource.kind
            and namespace in ("", place)
            and _has_labels(item, labels)
            and _has_fields(item, fields)
        ]

    def _live(self, resource: Resource, namespace: str, name: str) -> Raw:
        try:
            return self.objects[resource.kind, namespace, name]
        except KeyError:
            raise NotFoundError(
                f"{resource.kind} {namespace}/{name} not found", status=404
            ) from None

    # Writing.

    async def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> Raw:
        if dry_run:
            item = copy.deepcopy(dict(manifest))
            self.before_write("try", item)
            return item
        item = self._written("create", manifest)
        place = _place(item)
        if place in self.objects:
            state = (
                "is being deleted" if "deletionTimestamp" in self.objects[place]["metadata"] else ""
            )
            raise AlreadyExistsError(f"{place} already exists {state}".rstrip(), status=409)
        self._insert(place, item)
        return copy.deepcopy(item)

    async def update(self, manifest: Mapping[str, Any]) -> Raw:
        item = self._written("update", manifest)
        live = self._live(resource_of(item), *_place(item)[1:])
        if item["metadata"].get("resourceVersion") != live["metadata"]["resourceVersion"]:
            raise ConflictError("the object has been modified", status=409)
        self._replace(_place(item), item)
        return copy.deepcopy(item)

    async def apply(self, manifest: Mapping[str, Any], manager: str) -> Raw:
        item = self._written("apply", manifest)
        place = _place(item)
        live = self.objects.get(place)
        if live is None:
            self._insert(place, item)
        else:
            merged = {**live, **item, "metadata": {**live["metadata"], **item["metadata"]}}
            self._replace(place, merged)
        return copy.deepcopy(self.objects[place])

    async def apply_status(self, manifest: Mapping[str, Any], manager: str) -> Raw:
        item = self._written("apply status", manifest)
        live = self._live(resource_of(item), *_place(item)[1:])
        self._replace(_place(item), {**live, "status": item["status"]})
        return copy.deepcopy(self.objects[_place(item)])

    async def patch(
        self, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> Raw:
        live = self._guarded("patch", resource, namespace, name, body)
        self._replace(_place(live), _merged(live, body))
        return copy.deepcopy(live)

    async def patch_pod_status(self, namespace: str, name: str, body: Mapping[str, Any]) -> Raw:
        live = self._guarded("patch status", POD, namespace, name, body)
        merged = _merged(live, {"metadata": body["metadata"]})
        conditions = {one["type"]: one for one in live.get("status", {}).get("conditions", ())}
        for one in body["status"]["conditions"]:
            conditions[one["type"]] = {**conditions.get(one["type"], {}), **one}
        merged["status"] = {**live.get("status", {}), "conditions": list(conditions.values())}
        self._replace(_place(live), merged)
        return copy.deepcopy(merged)

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        place = (resource.kind, namespace, name)
        live = self.objects.get(place)
        if live is None:
            return
        self._allow("delete", live)
        if uid and live["metadata"]["uid"] != uid:
            raise ConflictError("the UID in the precondition does not match", status=409)
        if self.lingering and resource is POD and grace_seconds != 0:
            live["metadata"].setdefault("deletionTimestamp", times.to_text(self.now))
        else:
            del self.objects[place]

    def close(self) -> None:
        """Nothing to give back."""

    # What the rest of a cluster does.

    def settle(self) -> None:
        """Scheduler and kubelets: pinned pods are bound, run, and their engines are healthy."""
        for pod in self._all("Pod"):
            node = convert.pinned_node(pod)
            if node and convert.is_engine(pod) and "containerStatuses" not in pod.get("status", {}):
                pod["spec"]["nodeName"] = node
                pod["status"] = running_status(pod["metadata"]["uid"])

    def finish_deletions(self) -> None:
        """The kubelets are done with every terminating pod."""
        for place, item in list(self.objects.items()):
            if "deletionTimestamp" in item["metadata"]:
                del self.objects[place]

    def collect_garbage(self) -> None:
        """What is owned by an object that is no more goes too."""
        owners = {item["metadata"]["uid"] for item in self.objects.values()}
        for place, item in list(self.objects.items()):
            references = item["metadata"].get("ownerReferences") or ()
            if references and not any(one["uid"] in owners for one in references):
                del self.objects[place]

    def restart_container(self, name: str, exit_code: int = 1) -> None:
        """An engine container ended and runs again under another id."""
        (pod,) = [one for one in self._all("Pod") if one["metadata"]["name"] == name]
        (engine,) = pod["status"]["containerStatuses"]
        engine["restartCount"] += 1
        engine["containerID"] = f"{engine['containerID']}+"
        ended = {"exitCode": exit_code, "reason": "Error" if exit_code else "Completed"}
        engine["lastState"] = {"terminated": ended}

    def put(self, manifest: Mapping[str, Any]) -> Raw:
        """Somebody else creates or replaces an object; not counted as a write of ours."""
        item = copy.deepcopy(dict(manifest))
        place = _place(item)
        if place in self.objects:
            self._replace(place, {**self.objects[place], **item})
        else:
            self._insert(place, item)
        return self.objects[place]

    def edit_spec(self, namespace: str, name: str, spec: Mapping[str, Any]) -> None:
        """A user changes an object: its generation grows."""
        live = self._live(DEPLOYMENT_OBJECT, namespace, name)
        live["spec"] = copy.deepcopy(dict(spec))
        live["metadata"]["generation"] += 1

    def pods(self) -> list[Raw]:
        """All engine pods, by name."""
        return [pod for pod in self._all("Pod") if convert.is_engine(pod)]

    def _all(self, kind: str) -> Iterator[Raw]:
        return (item for (one, _, _), item in sorted(self.objects.items()) if one == kind)

    # Book-keeping.

    def _written(self, verb: str, manifest: Mapping[str, Any]) -> Raw:
        item = copy.deepcopy(dict(manifest))
        self._allow(verb, item)
        return item

    def _guarded(
        self, verb: str, resource: Resource, namespace: str, name: str, body: Mapping[str, Any]
    ) -> Raw:
        live = self._live(resource, namespace, name)
        self._allow(verb, live)
        uid = body.get("metadata", {}).get("uid")
        if uid is not None and uid != live["metadata"]["uid"]:
            raise ConflictError("the uid is another one", status=409)
        return live

    def _allow(self, verb: str, item: Raw) -> None:
        self.before_write(verb, item)
        self.writes.append(Write(verb, item["kind"], item["metadata"]["name"]))

    def _insert(self, place: Place, item: Raw) -> None:
        self._count += 1
        metadata = item.setdefault("metadata", {})
        metadata.setdefault("uid", f"uid-{self._count}")
        metadata.setdefault("creationTimestamp", times.to_text(self.now))
        metadata.setdefault("generation", 1)
        metadata["resourceVersion"] = str(self._count)
        self.objects[place] = item

    def _replace(self, place: Place, item: Raw) -> None:
        self._count += 1
        kept = self.objects[place]["metadata"]
        item["metadata"] = {**item["metadata"], "uid": kept["uid"]}
        item["metadata"]["resourceVersion"] = str(self._count)
        item["metadata"].setdefault("creationTimestamp", kept["creationTimestamp"])
        self.objects[place] = item


def fail_at(cluster: FakeCluster, number: int, *, after: bool = False) -> None:
    """The n-th write from now (from 1) fails, and so does every one after it.

    With `after` the n-th write still happens: the process dies right behind it.
    """
    seen = 0

    def refuse(verb: str, manifest: Raw) -> None:
        nonlocal seen
        seen += 1
        if seen > number or (seen == number and not after):
            raise UnavailableError("the process was killed")

    cluster.before_write = refuse


def run_again(cluster: FakeCluster) -> None:
    """Writes succeed again."""
    cluster.before_write = lambda verb, manifest: None


def refuse_kind(cluster: FakeCluster, kind: str, error: KubeError) -> None:
    """Every write of one kind fails."""

    def refuse(verb: str, manifest: Raw) -> None:
        if manifest["kind"] == kind:
            raise error

    cluster.before_write = refuse


def running_status(uid: str, ip: str = "198.19.1.7") -> Raw:
    """The status of an engine pod whose container is healthy; the gate is not set."""
    engine = {
        "name": names.ENGINE_CONTAINER,
        "containerID": f"containerd://{uid}",
        "restartCount": 0,
        "ready": True,
        "state": {"running": {"startedAt": "2026-11-23T21:00:00Z"}},
    }
    return {
        "phase": "Running",
        "podIP": ip,
        "conditions": [{"type": "ContainersReady", "status": "True"}],
        "containerStatuses": [engine],
    }


def gpu_node(name: str, gpus: int = 8, product: str = "NVIDIA-H100-80GB-HBM3") -> Raw:
    """A Ready node with the labels of GPU feature discovery."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "nvidia.com/gpu.product": product,
                "nvidia.com/gpu.memory": "81559",
                "nvidia.com/gpu.count": str(gpus),
            },
        },
        "spec": {},
        "status": {
            "allocatable": {"cpu": "192", "memory": "2Ti", "nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _place(item: Mapping[str, Any]) -> Place:
    metadata = item["metadata"]
    namespace = "" if item["kind"] == NODE.kind else metadata.get("namespace", "")
    return item["kind"], namespace, metadata["name"]


def _merged(live: Raw, body: Mapping[str, Any]) -> Raw:
    """JSON merge patch (RFC 7386)."""
    result = copy.deepcopy(live)
    for key, value in body.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            result[key] = _merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


def _has_labels(item: Raw, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def _has_fields(item: Raw, selector: str) -> bool:
    for part in filter(None, selector.split(",")):
        path, unequal, value = part.partition("!=")
        if not unequal:
            path, _, value = part.partition("=")
        found: Any = item
        for step in path.split("."):
            found = found.get(step, "") if isinstance(found, dict) else ""
        if (found == value) is bool(unequal):
            return False
    return True
