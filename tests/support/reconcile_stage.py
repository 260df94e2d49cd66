"""A local cluster with the simulator and the gateway, where an operator runs as a process."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api_server import OBJECTS, ApiServer, Refused
from control_plane import wait_established
from glm_dev.cluster import ClusterSpec, LocalCluster
from glm_dev.images import build_images
from glm_dev.kubectl import condition, wait_for
from glm_operator.api import crd, names
from glm_operator.kube import convert
from glm_operator.kube.resources import (
    CHILDREN,
    CONTROLLER_REVISION,
    DEPLOYMENT_OBJECT,
    NODE,
    POD,
    SERVICE,
    Resource,
)
from glm_operator.plan.observed import Node
from operator_process import OperatorProcess, operator

NODES = "2x8xH100-80GB"
NO_NODES = "none"
"""A control plane alone."""
NAME = "vision"
SYSTEM = "glm-system"
SIMULATOR = "localhost/glm-engine-sim:dev"
OWNED = f"?labelSelector={names.LABEL_DEPLOYMENT}%3D{NAME}"
WRITES = ("POST", "PUT", "PATCH", "DELETE", "APPLY")
OURS = tuple(kind.plural for kind in (POD, CONTROLLER_REVISION, *CHILDREN, DEPLOYMENT_OBJECT))
STATUS_OF_OTHERS = ('"poddisruptionbudgets"', '"deployments"', '"services"')
"""Kinds whose status only controllers write."""
Json = dict[str, Any]


def flash(**changes: Any) -> Json:
    """A flash tier of one simulated replica that does not scale."""
    tier: Json = {
        "model": {
            "preset": "GLM-4.6V-Flash",
            "uri": "image:///models/flash",
            "quantization": "BF16",
        },
        "engine": {"image": SIMULATOR, "resources": {"cpu": "20m", "memory": "128Mi"}},
        "scaling": {"mode": "Off"},
        "drain": {"timeoutSeconds": 5},
    }
    return tier | changes


def flagship(**changes: Any) -> Json:
    """A simulated flagship on two GPUs."""
    tier: Json = {
        "model": {"preset": "GLM-4.6V", "uri": "image:///models/flagship", "quantization": "FP8"},
        "engine": {"image": SIMULATOR, "resources": {"cpu": "20m", "memory": "128Mi"}},
        "parallelism": {"tensor": "2"},
        "drain": {"timeoutSeconds": 5},
    }
    return tier | changes


def text(**changes: Any) -> Json:
    """A simulated model without vision on four GPUs."""
    tier: Json = {
        "model": {"preset": "GLM-4.6", "uri": "image:///models/text", "quantization": "INT4"},
        "engine": {"image": SIMULATOR, "resources": {"cpu": "20m", "memory": "128Mi"}},
        "parallelism": {"tensor": "4"},
        "context": {"maxModelLen": 32768},
        "drain": {"timeoutSeconds": 5},
    }
    return tier | changes


def glm_deployment(tiers: Json, **spec: Any) -> Json:
    """The object, without a namespace."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": NAME},
        "spec": {"tiers": tiers, **spec},
    }


def job(name: str, node: str, gpus: int) -> Json:
    """A pod of somebody else that holds GPUs of a node."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    profile = {"seccompProfile": {"type": "RuntimeDefault"}, "runAsNonRoot": True}
    container = {
        "name": "job",
        "image": SIMULATOR,
        "command": ["sleep", "3600"],
        "securityContext": security,
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    return {
        "metadata": {"name": name},
        "spec": {
            "nodeName": node,
            "containers": [container],
            "securityContext": profile | {"runAsUser": 10001},
        },
    }


@dataclass
class Room:
    """One namespace of the stage, with at most one object in it."""

    api: ApiServer
    namespace: str

    @property
    def path(self) -> str:
        """Where the object is."""
        return f"{OBJECTS.format(self.namespace)}/{NAME}"

    def create(self, tiers: Json, **spec: Any) -> Json:
        """Create the object."""
        return self.api.create(OBJECTS.format(self.namespace), glm_deployment(tiers, **spec))

    def edit(self, spec: Json) -> Json:
        """Merge a change into the spec."""
        return self.api.merge(self.path, {"spec": spec})

    def read(self) -> Json:
        """The object as stored."""
        return self.api.get(self.path)

    def delete(self) -> None:
        """Delete the object."""
        self.api.delete(self.path)

    def hurry(self) -> None:
        """End all pods without their preStop and drain times; no test looks at these."""
        body = {"gracePeriodSeconds": 1}
        for pod in self.list(POD):
            path = POD.path(self.namespace, pod["metadata"]["name"])
            # One that no node has goes with its object, before it can be hurried.
            with suppress(Refused):
                self.api.delete(path, body)

    def list(self, resource: Resource, query: str = OWNED) -> list[Json]:
        """Objects of a kind that carry our label."""
        found: list[Json] = self.api.get(resource.path(self.namespace) + query)["items"]
        return found

    def engines(self) -> dict[str, Json]:
        """Engine pods that are not being deleted, by name."""
        return {
            pod["metadata"]["name"]: pod
            for pod in self.list(POD)
            if names.LABEL_TIER in pod["metadata"]["labels"]
            and "deletionTimestamp" not in pod["metadata"]
        }

    def uids(self) -> dict[str, str]:
        """Engine pod -> uid."""
        return {name: pod["metadata"]["uid"] for name, pod in self.engines().items()}

    def left(self) -> list[str]:
        """Everything that still exists of the object."""
        kinds = (POD, CONTROLLER_REVISION, *CHILDREN)
        return [
            f"{kind.kind} {one['metadata']['name']}" for kind in kinds for one in self.list(kind)
        ]

    def wait(self, kind: str, status: str, reason: str = "", timeout: float = 60) -> Json:
        """The condition, once it is so for the present generation."""
        last: list[Any] = [None]

        def probe() -> Json | None:
            stored = self.read()
            found = last[0] = dict(condition(stored, kind))
            current = found.get("observedGeneration") == stored["metadata"]["generation"]
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return found if current and fits else None

        try:
            return wait_for(f"{kind}={status} {reason}", probe, timeout, every=0.1)
        except Exception as error:
            error.add_note(f"last seen: {last[0]}")
            raise

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, with what is held on them."""
        nodes = self.api.get(NODE.path())["items"]
        return convert.nodes_of(nodes, self.api.get(POD.path())["items"])

    def until(self, what: str, probe: Callable[[], Any], timeout: float = 60) -> Any:
        """Wait until `probe` is true."""
        return wait_for(what, probe, timeout, every=0.1)

    def settled(self) -> bool:
        """Whether every pod of the object is Ready, as its kubelet says too."""
        return all(
            convert.condition(pod, "Ready").get("status") == "True" for pod in self.list(POD)
        )

    @property
    def _gateway(self) -> str:
        return f"{SERVICE.path(self.namespace, f'{NAME}-gateway:80')}/proxy/v1"

    def models(self) -> set[str]:
        """The model names that the gateway knows."""
        return {str(one["id"]) for one in self.api.get(f"{self._gateway}/models")["data"]}

    def ask(self, *content: Json) -> str:
        """The model that answers a chat completion of which the gateway chooses the tier."""
        body = {"model": "glm", "messages": [{"role": "user", "content": list(content)}]}
        return str(self.api.create(f"{self._gateway}/chat/completions", body)["model"])

    def scheduled(self) -> set[str]:
        """Uids of all engine pods that were ever bound in this namespace, from their events."""
        events = self.api.get(f"/api/v1/namespaces/{self.namespace}/events?limit=500")["items"]
        return {
            event["involvedObject"]["uid"]
            for event in events
            if event["reason"] == "Scheduled"
            and event["involvedObject"]["name"].startswith(
                tuple(f"{NAME}-{tier}-" for tier in names.TIERS)
            )
        }


@dataclass
class Stage:
    """The cluster, and the operator that works on it."""

    cluster: LocalCluster
    api: ApiServer
    operator: OperatorProcess
    folder: Path
    """For what operators of a test's own write."""
    _numbers: Iterator[int]

    @contextmanager
    def room(self) -> Iterator[Room]:
        """A namespace of its own with Pod Security restricted; its object is deleted after."""
        name = f"room-{next(self._numbers)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for("the ServiceAccount", lambda: exists(self.api, account), 30, every=0.1)
        room = Room(self.api, name)
        try:
            yield room
        finally:
            if exists(self.api, f"{OBJECTS.format(name)}/{NAME}"):
                room.delete()
            room.hurry()
            # GPUs are given back before the next test wants them.
            wait_for("the pods to go", lambda: not room.list(POD), 90, every=0.2)

    @contextmanager
    def rival(self, name: str, namespace: str) -> Iterator[OperatorProcess]:
        """An operator for one namespace only, whose Lease lies there too."""
        log = self.folder / f"{name}.log"
        place = {"namespace": namespace, "watch_namespaces": namespace}
        settings = {**_settings(), **place, "pod_name": name, "lease_seconds": 3}
        with operator(self.cluster.kubeconfig, log, **settings) as process:
            yield process

    def writes(self) -> Counter[str]:
        """Writes of kinds that belong to an object, as the API server has counted them."""
        text = self.cluster.kubectl.run("get", "--raw", "/metrics")
        found = (line for line in text.splitlines() if line.startswith("apiserver_request_total{"))
        samples = (line.rpartition(" ")[::2] for line in found if _is_write(line))
        return Counter({series: int(float(value)) for series, value in samples})

    def quiet(self) -> Counter[str]:
        """The writes so far, once kubelets and controllers have said all they had to say."""
        last = [self.writes()]

        def same() -> bool:
            before, last[0] = last[0], self.writes()
            return before == last[0]

        wait_for("the cluster to be quiet", same, 60, every=2.5)
        return last[0]


def _is_write(line: str) -> bool:
    wrote = any(f'verb="{verb}"' in line for verb in WRITES)
    others = 'subresource="status"' in line and any(one in line for one in STATUS_OF_OTHERS)
    token = 'subresource="token"' in line
    kind = any(f'resource="{one}"' in line for one in OURS)
    return wrote and kind and not others and not token


def exists(api: ApiServer, path: str) -> bool:
    """Whether there is an object at this path."""
    try:
        api.get(path)
    except Refused as error:
        if error.status != 404:
            raise
        return False
    return True


@contextmanager
def stage(folder: Path, resync_seconds: float = 2, nodes: str = NODES) -> Iterator[Stage]:
    """A cluster of two GPU nodes and an operator that looks at everything every two seconds."""
    archives = {} if nodes == NO_NODES else build_images(("gateway", "engine-sim"))
    spec = ClusterSpec(
        name=f"reconcile-{os.getpid()}",
        nodes=nodes,
        images=tuple(archives.values()),
        temporary=True,
    )
    with LocalCluster.up(spec) as cluster, closing(ApiServer(cluster.kubeconfig)) as api:
        _prepare(cluster, api)
        settings = {**_settings(), "resync_seconds": resync_seconds}
        with operator(cluster.kubeconfig, folder / "operator.log", **settings) as process:
            process.start()
            yield Stage(cluster, api, process, folder, itertools.count(1))


def _settings() -> Mapping[str, Any]:
    return {
        "pod_name": "operator-under-test",
        "namespace": SYSTEM,
        "gateway_image": "localhost/glm-gateway:dev",
        "engine_image": SIMULATOR,
        "resync_seconds": 2,
    }


def _prepare(cluster: LocalCluster, api: ApiServer) -> None:
    """What the chart would install, without the operator itself."""
    cluster.kubectl.apply(crd.definition())
    wait_established(api)
    api.create("/api/v1/namespaces", {"metadata": {"name": SYSTEM}})
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]},
        {
            "apiGroups": ["discovery.k8s.io"],
            "resources": ["endpointslices"],
            "verbs": ["get", "list", "watch"],
        },
    ]
    keys = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["glm-api-keys"],
        "verbs": ["get", "list", "watch"],
    }
    for name, allowed in (
        (names.GATEWAY_CLUSTER_ROLE, rules),
        (names.GATEWAY_KEYS_CLUSTER_ROLE, [keys]),
    ):
        role = {"metadata": {"name": name}, "rules": allowed}
        api.create("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
