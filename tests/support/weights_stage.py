"""A cluster with the chart installed, a hub beside it, and simulated engines that need weights."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments import NAME, wait_condition
from glm_dev.cluster import nodes
from glm_dev.hub import configs
from glm_dev.hub.checkpoints import make_checkpoint
from glm_dev.hub.server import Hub
from glm_dev.kubectl import KubectlError, condition, wait_for
from glm_dev.site import SYSTEM, Site, local_site
from glm_operator.manifests.weights import WEIGHTS_USER

NODES = "2x2xH100-80GB"
COLLECT_SECONDS = 10
SIMULATOR = "localhost/glm-engine-sim:dev"
MODEL = "org/flash"
KEY_START = "org--flash--"
Json = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """A file of weights on the hub."""

    name: str
    size: int


@dataclass
class WeightsStage:
    """What the tests of weights share. The hub is set up anew for each test."""

    site: Site
    scratch: Path
    address: str
    """Where pods reach this machine."""
    node_paths: Path
    """The folder that the chart allows by file://."""
    hub: Hub = field(default_factory=Hub)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def publish(self, name: str = MODEL, *, seed: int = 0, **options: Any) -> str:
        """A tiny checkpoint of flash on the hub, of about 12 MB; returns its commit."""
        folder = make_checkpoint(
            self.scratch / f"{name.replace('/', '--')}-{seed}",
            _config(),
            shard_bytes=4_000_000,
            seed=seed,
        )
        return self.hub.publish(name, folder, **options)

    def disk(self, node: str, namespace: str) -> Path:
        """The folder in which a node keeps the weights of a namespace, seen from this machine."""
        local = self.site.local
        assert local is not None
        index = int(node.rpartition("-")[2])
        return local.plan.node_folder(index) / "lib" / "glm-operator" / namespace

    def copies(self, namespace: str, kind: str = "weights") -> dict[str, list[str]]:
        """What lies in the folders of copies, by node."""
        found = {}
        for node in self.nodes():
            folder = self.disk(node, namespace) / kind
            found[node] = sorted(os.listdir(folder)) if folder.is_dir() else []
        return found

    def anything(self, namespace: str) -> list[str]:
        """What is left of a namespace on any disk."""
        return [node for node in self.nodes() if self.disk(node, namespace).exists()]

    def leave_sticky_folder(self, path: Path) -> None:
        """A folder in which only the owner of a file may remove it, as a Job may make one."""
        path.mkdir()
        (path / "file").write_text("x")
        for one in (path / "file", path):
            os.chown(one, WEIGHTS_USER, WEIGHTS_USER)
        path.chmod(0o1700)

    def agent_restarts(self) -> list[int]:
        """How often the node agents were started anew."""
        pods = self.site.kubectl.list("pod", SYSTEM, "app.kubernetes.io/component=node-agent")
        return [one["status"]["containerStatuses"][0]["restartCount"] for one in pods]

    def largest_shard(self) -> Shard:
        """The largest file of weights of the newest commit."""
        repository = self.hub.repositories[MODEL]
        blobs = repository.commits[repository.branches["main"]].blobs
        shards = [Shard(name, one.size) for name, one in blobs.items() if name.startswith("model-")]
        return max((one for one in shards if "json" not in one.name), key=lambda one: one.size)

    def downloads(self) -> dict[str, int]:
        """Shard -> how often it was sent from its beginning to its end, not only its header."""
        found: Counter[str] = Counter()
        for method, path, part in self.hub.served.requests:
            name = path.rpartition("/")[2].partition("?")[0]
            if method == "GET" and name.endswith(".safetensors") and "/store/" in path and not part:
                found[name] += 1
        return dict(found)

    def ranges(self, shard: str) -> list[int]:
        """Where the transfers of a shard began."""
        parts = [part for _, path, part in self.hub.served.requests if f"/{shard}" in path]
        return [int(part.removeprefix("bytes=").partition("-")[0]) for part in parts if part]

    def end_pod(self, pod: Json) -> None:
        """Kill a pod as a lost process would, and wait until it is gone."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.site.kubectl.run("delete", "pod", name, "-n", namespace, "--grace-period=1")

    def wait_for_gpus(self) -> None:
        """Wait until every node offers its GPUs again."""

        def whole() -> bool:
            nodes = self.site.kubectl.list("node")
            return all(one["status"]["allocatable"].get("nvidia.com/gpu") == "2" for one in nodes)

        wait_for("the GPUs of all nodes", whole, 60)

    @contextmanager
    def small_disk(self, node: str, namespace: str, size: int) -> Iterator[None]:
        """Give the copies of a namespace on a node a disk of so many bytes."""
        place = f"/var/lib/glm-operator/{namespace}"
        self.in_node(node, "mkdir", "-p", place)
        options = f"size={size},mode=2770,gid=10001"
        self.in_node(node, "mount", "-t", "tmpfs", "-o", options, "small", place)
        try:
            yield
        finally:
            self.in_node(node, "umount", "-l", place)

    def in_node(self, node: str, *command: str) -> None:
        """Run a command in the mount namespace of a node."""
        local = self.site.local
        assert local is not None
        enter = nodes.enter(local.plan, int(node.rpartition("-")[2]))
        subprocess.run([*enter, *command], check=True)

    @contextmanager
    def node_folder(self, name: str) -> Iterator[str]:
        """A checkpoint in a folder that all nodes have, below the one that the chart allows."""
        folder = self.node_paths / name
        make_checkpoint(folder, _config(), shard_bytes=4_000_000)
        try:
            yield str(folder)
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def shared_claim(self, namespace: str, name: str) -> Iterator[None]:
        """A claim that pods of all nodes may write: the nodes share this machine's folders."""
        folder = self.node_paths / f"shared-{namespace}"
        folder.mkdir()
        os.chown(folder, WEIGHTS_USER, WEIGHTS_USER)
        metadata = {"name": f"shared-{namespace}"}
        spec = {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": str(folder)},
            "storageClassName": "",
            "claimRef": {"namespace": namespace, "name": name},
        }
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata}
        self.site.kubectl.apply(volume | {"spec": spec})
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "volumeName": metadata["name"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        self.site.kubectl.apply(claim)
        try:
            yield
        finally:
            self.site.kubectl.run("delete", "pv", metadata["name"], "--wait=false")

    def nodes(self) -> list[str]:
        """The names of the nodes."""
        return [one["metadata"]["name"] for one in self.site.kubectl.list("node")]

    @contextmanager
    def room(self) -> Iterator[Room]:
        """A namespace with Pod Security restricted; the object in it is deleted after."""
        name = f"weights-{next(self._numbers)}"
        self.site.create_namespace(name)
        self.hub = Hub()
        with self.hub.running(self.address) as endpoint:
            room = Room(self, name, endpoint)
            room.secret("hub", HF_ENDPOINT=endpoint)
            try:
                yield room
            finally:
                room.delete()


@dataclass
class Room:
    """One namespace of the stage, with at most one object in it."""

    stage: WeightsStage
    namespace: str
    endpoint: str

    def secret(self, name: str, **values: str) -> None:
        """Create or change a Secret."""
        metadata = {"name": name, "namespace": self.namespace}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        self.stage.site.kubectl.apply(manifest | {"stringData": values})

    def apply(self, **changes: Any) -> None:
        """Create or change the object: one flash tier from the hub."""
        tier: Json = {
            "model": {"preset": "GLM-4.6V-Flash", "uri": f"hf://{MODEL}", "quantization": "Auto"},
            "engine": {"image": SIMULATOR, "resources": {"cpu": "20m", "memory": "128Mi"}},
            "context": {"maxModelLen": 8192},
            "weights": {"secretRef": "hub"},
            "scaling": {"mode": "Off"},
            "drain": {"timeoutSeconds": 5},
        }
        metadata = {"name": NAME, "namespace": self.namespace}
        self.stage.site.kubectl.apply(
            {
                "apiVersion": "glm-operator.io/v1alpha1",
                "kind": "GLMDeployment",
                "metadata": metadata,
                "spec": {"tiers": {"flash": tier | changes}, "gateway": {"replicas": 1}},
            }
        )

    def wait(self, kind: str, status: str, reason: str = "", timeout: float = 120) -> Json:
        """The object once a condition is so."""
        found: Json = wait_condition(
            self.stage.site, self.namespace, kind, status, reason, timeout=timeout
        )
        return found

    def weights(self) -> Mapping[str, Any]:
        """What the status tells of the tier's weights."""
        stored = self.stage.site.kubectl.get("glm", NAME, self.namespace)
        found: Mapping[str, Any] = stored["status"]["tiers"]["flash"].get("weights") or {}
        return found

    def list(self, kind: str, selector: str = "") -> list[Json]:
        """Objects of a kind in the namespace."""
        return list(self.stage.site.kubectl.list(kind, self.namespace, selector))

    def jobs(self) -> list[Json]:
        """The weights Jobs."""
        return self.list("job", "app.kubernetes.io/component=weights")

    def job_pods(self) -> list[Json]:
        """The pods of weights Jobs."""
        return self.list("pod", "app.kubernetes.io/component=weights")

    def engines(self) -> list[Json]:
        """The engine pods."""
        return self.list("pod", "glm-operator.io/tier=flash")

    def volumes(self) -> list[Json]:
        """The PersistentVolumes of this namespace's object."""
        found = self.stage.site.kubectl.list("pv")
        return [one for one in found if one["spec"]["claimRef"]["namespace"] == self.namespace]

    def events(self, reason: str) -> list[str]:
        """What was told with a reason."""
        found = self.stage.site.kubectl.list("events.events.k8s.io", self.namespace)
        return [one["note"] for one in found if one["reason"] == reason]

    def message(self, obj: Json, kind: str) -> str:
        """The sentence of a condition."""
        return str(condition(obj, kind)["message"])

    def home(self) -> str:
        """The node of the only engine pod."""
        (pod,) = [one for one in self.engines() if "deletionTimestamp" not in one["metadata"]]
        return str(pod["spec"]["nodeName"])

    def until(self, what: str, probe: Any, timeout: float = 90) -> Any:
        """Wait until `probe` is true."""
        return wait_for(what, probe, timeout, every=0.2)

    def delete(self) -> None:
        """Delete the object and end its pods."""
        kubectl = self.stage.site.kubectl
        with suppress(KubectlError):
            kubectl.run("delete", "glm", NAME, "-n", self.namespace, timeout=60)
        everything = ("delete", "pod", "--all", "-n", self.namespace)
        kubectl.run(*everything, "--grace-period=1", "--wait=false", timeout=60)
        wait_for("the pods to go", lambda: not self.list("pod"), 90, every=0.2)


def _config() -> Json:
    """Large enough that a download can be stopped in the middle of a shard."""
    config = configs.tiny(configs.flash())
    return {**config, "text_config": config["text_config"] | {"vocab_size": 20_000}}


@contextmanager
def weights_stage(scratch: Path) -> Iterator[WeightsStage]:
    """Two nodes and everything that a platform installs."""
    node_paths = Path(tempfile.mkdtemp(prefix="glm-node-paths-"))
    node_paths.chmod(0o755)
    with local_site(f"weights-{os.getpid()}", NODES, real_engine=False) as site:
        node_local = {"collectAfterSeconds": COLLECT_SECONDS}
        weights = {"weights.nodeLocal": node_local, "weights.nodePaths": [str(node_paths)]}
        site.install_chart(**weights)
        assert site.local is not None
        address = str(site.local.plan.addresses.host)
        yield WeightsStage(site, scratch, address, node_paths)
    shutil.rmtree(node_paths)
