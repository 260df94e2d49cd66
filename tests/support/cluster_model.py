"""A small cluster in memory: it executes plans and shows the planner what came of them.

It knows what the planner must be right about: names are unique while a pod exists, GPUs are held
until a pod is gone, a container gets ready some time after its pod, a drained pod ends.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glm_operator.api import names
from glm_operator.api.v1alpha1 import GLMDeployment
from glm_operator.kube.limits import resources_of
from glm_operator.manifests.weights_task import TaskKind, WeightsTask
from glm_operator.plan import times
from glm_operator.plan.actions import (
    Action,
    Apply,
    CreatePod,
    DeleteChild,
    DeletePod,
    PatchPod,
    Plan,
    TryPod,
)
from glm_operator.plan.observed import (
    Defaults,
    GatewayReport,
    GatewayTier,
    Hold,
    JobPhase,
    Node,
    Observed,
    PriorityClasses,
    Replica,
    Revision,
    ScalingMemory,
    WeightsJob,
)
from glm_operator.plan.order import Claim
from glm_operator.plan.planner import plan
from glm_operator.plan.quota import UNLIMITED, Allowance, Limits

GPU = "nvidia.com/gpu"
START_SECONDS = 20.0
STOP_SECONDS = 2.0
FETCH_SECONDS = 8.0


class Conflict(Exception):
    """What the API server, or the GPU itself, would refuse."""


def gpu_node(
    name: str, gpus: int = 8, product: str = "NVIDIA-H100-80GB-HBM3", mib: int = 81559
) -> Node:
    """A node with the labels of GPU feature discovery."""
    labels = {
        "kubernetes.io/hostname": name,
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.memory": str(mib),
        "nvidia.com/gpu.count": str(gpus),
    }
    return Node(name, labels=labels, allocatable={GPU: gpus})


@dataclass(frozen=True)
class Selector:
    """Which nodes the scheduler may give to a pod that names none."""

    labels: Mapping[str, str]
    avoid: frozenset[tuple[str, str]]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Selector:
        """From the pod's selector and required affinity."""
        spec = manifest["spec"]
        affinity = spec["affinity"]["nodeAffinity"]
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
        terms = required.get("nodeSelectorTerms", [{}])
        expressions = terms[0].get("matchExpressions", [])
        avoid = {(one["key"], value) for one in expressions for value in one["values"]}
        return cls(spec.get("nodeSelector", {}), frozenset(avoid))

    def accepts(self, node: Node) -> bool:
        """Whether a node is one of them."""
        wanted = self.labels.items() <= node.labels.items()
        return wanted and not self.avoid & set(node.labels.items())


@dataclass
class ModelCluster:
    """One GLMDeployment and everything around it. Time moves only by `advance`."""

    spec: dict[str, Any]
    nodes: dict[str, Node]
    now: float = 1_700_000_000.0
    generation: int = 1
    status: dict[str, Any] = field(default_factory=dict)
    pods: dict[str, Replica] = field(default_factory=dict)
    children: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    jobs: dict[str, WeightsJob] = field(default_factory=dict)
    """Weights Jobs by name."""
    facts: dict[str, Any] = field(default_factory=lambda: {"commit": "c" * 40})
    """What a Job reads of any checkpoint."""
    failing: dict[str, str] = field(default_factory=dict)
    """Node, or "" for Jobs without one -> the reason for which its weights Jobs fail."""
    fetched: list[tuple[str, str]] = field(default_factory=list)
    """Node and key of every fetch that was begun."""
    revisions: dict[str, Revision] = field(default_factory=dict)
    scaling: Mapping[str, ScalingMemory] = field(default_factory=dict)
    in_flight: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    arrivals: dict[str, int] = field(default_factory=dict)
    gateway_ages: list[float] = field(default_factory=lambda: [0.2])
    locked: str = ""
    """Why the gateways let nobody in."""
    defaults: Defaults = field(default_factory=Defaults)
    broken_revisions: set[str] = field(default_factory=set)
    """Revisions whose engines never pass the tool calls."""
    refusing: set[str] = field(default_factory=set)
    """Nodes that the scheduler finds too small for our pods, though their GPUs are free."""
    limits: Limits = UNLIMITED
    """What the namespace allows; what our pods use of it is counted here."""
    forbidding: bool = False
    """Whether a policy of the cluster admits none of our pods."""
    tried: list[TryPod] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    deleting_since: dict[str, float] = field(default_factory=dict)
    name: str = "vision"
    created_at: float = 1_600_000_000.0
    claims: tuple[Claim, ...] = ()
    """What all objects claimed by their last plans."""
    priorities: PriorityClasses = field(default_factory=PriorityClasses)
    selectors: dict[str, Selector] = field(default_factory=dict)
    """Of pods without a node."""
    _uids: int = 0

    # What the planner sees.

    def observed(self) -> Observed:
        """The planner's input."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {
                "name": self.name,
                "namespace": "ml",
                "uid": f"uid-{self.name}",
                "generation": self.generation,
            },
            "spec": self.spec,
        }
        return Observed(
            object=GLMDeployment.model_validate(body),
            uid=f"uid-{self.name}",
            generation=self.generation,
            status=self.status,
            replicas=tuple(self.pods.values()),
            revisions=tuple(self.revisions.values()),
            nodes=tuple(self._with_holds(node) for node in self.nodes.values()),
            children=self.children,
            weights=tuple(self.jobs.values()),
            gateways=tuple(self._reports()),
            scaling=self.scaling,
            created_at=self.created_at,
            claims=self.claims,
            priorities=self.priorities,
            limits=self._allowance().limits,
        )

    def _allowance(self) -> Allowance:
        """What the API server's quota admission would know."""
        account = Allowance(self.limits)
        for pod in self.pods.values():
            if pod.phase not in ("Failed", "Succeeded"):
                account.take(pod.resources)
        return account

    def _with_holds(self, node: Node) -> Node:
        own = [
            Hold(pod.resource, pod.gpus, "ml", pod.name, pod.uid, pod.terminating)
            for pod in self.pods.values()
            if pod.node == node.name and pod.phase not in ("Failed", "Succeeded")
        ]
        return replace(node, holds=(*node.holds, *own))

    def _reports(self) -> Iterable[GatewayReport]:
        for index, age in enumerate(self.gateway_ages):
            first = index == 0
            tiers = {tier: self._gateway_tier(tier, first) for tier in self.spec["tiers"]}
            name = f"{self.name}-gateway-{index}"
            yield GatewayReport(name, self._routed_by(), age, tiers=tiers, locked=self.locked)

    def _routed_by(self) -> int:
        """The generation of the configuration that the gateways watch."""
        live = self.children.get(("ConfigMap", f"{self.name}-gateway"), {})
        text = live.get("data", {}).get(names.GATEWAY_CONFIG_KEY, '{"generation": 0}')
        return int(json.loads(text)["generation"])

    def _gateway_tier(self, tier: str, first: bool) -> GatewayTier:
        mine = [pod for pod in self.pods.values() if pod.tier == tier]
        busy = {pod.name: self.in_flight.get(pod.name, 0) for pod in mine} if first else {}
        return GatewayTier(
            arrivals=self.arrivals.get(tier, 0) if first else 0,
            held=self.held.get(tier, 0) if first else 0,
            in_flight=sum(busy.values()),
            replicas=busy,
            routable=frozenset(pod.name for pod in mine if pod.routable and not pod.terminating),
        )

    # What executes a plan.

    def plan(self) -> Plan:
        """What the planner would do now."""
        return plan(self.observed(), self.now, self.defaults)

    def reconcile(self, stop_after: int | None = None) -> Plan:
        """Plan and execute; `stop_after` actions the operator dies, status unwritten."""
        result = self.plan()
        for count, action in enumerate(result.actions):
            if stop_after is not None and count >= stop_after:
                return result
            if isinstance(action, TryPod):
                self.tried.append(action)
                if self.forbidding:
                    break
            self.execute(action)
        self.status = copy.deepcopy(dict(result.status))
        self.scaling = result.scaling
        for name in result.verify:
            self._verify(name)
        return result

    def execute(self, action: Action) -> None:
        """One action, refused like the API server would."""
        match action:
            case CreatePod():
                self._create(action)
            case TryPod():
                pass
            case DeletePod():
                self._delete(action)
            case PatchPod():
                self._patch(action)
            case Apply():
                self._apply(action.manifest)
            case DeleteChild():
                self.children.pop((action.kind, action.name), None)
                self.jobs.pop(action.name, None)
                self.revisions.pop(action.name, None)

    def _create(self, action: CreatePod) -> None:
        meta = action.manifest["metadata"]
        if meta["name"] in self.pods:
            raise Conflict(f"pod {meta['name']} already exists")
        denied = self._allowance().lack(resources_of(action.manifest))
        if denied is not None:
            raise Conflict(denied.sentence)
        node = pinned_node(action.manifest) or action.node
        self._uids += 1
        container = action.manifest["spec"]["containers"][0]
        self.pods[meta["name"]] = Replica(
            name=meta["name"],
            uid=f"uid-{self.name}-{self._uids}",
            tier=meta["labels"][names.LABEL_TIER],
            revision=meta["labels"][names.LABEL_REVISION],
            ordinal=int(meta["name"].rpartition("-")[2]),
            created_at=self.now,
            node=node,
            gpus=int(container["resources"]["limits"][action.resource]),
            resource=action.resource,
            resources=resources_of(action.manifest),
            attempt=int(meta["annotations"][names.ANNOTATION_ATTEMPT]),
            asks=names.ANNOTATION_ASKS_FOR_NODE in meta["annotations"],
        )
        self.created.append(meta["name"])
        if node:
            self.check_capacity(node)
        else:
            self.selectors[meta["name"]] = Selector.of(action.manifest)

    def _delete(self, action: DeletePod) -> None:
        pod = self.pods.get(action.name)
        if pod is None or pod.uid != action.uid:
            return
        self.deleted.append(pod.name)
        self.deleting_since.setdefault(pod.name, self.now)
        self.pods[pod.name] = replace(pod, terminating=True)
        if pod.phase in ("Failed", "Succeeded") or not pod.bound:
            self._gone(pod.name)

    def _gone(self, name: str) -> None:
        self.pods.pop(name)
        self.deleting_since.pop(name, None)
        self.in_flight.pop(name, None)

    def _patch(self, action: PatchPod) -> None:
        pod = self.pods.get(action.name)
        if pod is None or pod.uid != action.uid:
            return
        changes: dict[str, Any] = {}
        if names.LABEL_ROUTABLE in action.labels:
            changes["routable"] = action.labels[names.LABEL_ROUTABLE] == "true"
        if names.ANNOTATION_DRAINING_SINCE in action.annotations:
            text = action.annotations[names.ANNOTATION_DRAINING_SINCE]
            changes["draining_since"] = None if text is None else times.from_text(text)
        self.pods[pod.name] = replace(pod, **changes)

    def _apply(self, manifest: Mapping[str, Any]) -> None:
        meta = manifest["metadata"]
        if manifest["kind"] == "ControllerRevision":
            labels = meta["labels"]
            self.revisions[meta["name"]] = Revision(
                name=meta["name"],
                tier=labels[names.LABEL_TIER],
                hash=labels[names.LABEL_REVISION],
                number=manifest["revision"],
                data=copy.deepcopy(manifest["data"]),
            )
            return
        if manifest["kind"] == "Job":
            self._start_job(manifest)
        live = copy.deepcopy(dict(manifest))
        live["metadata"]["uid"] = f"uid-{manifest['kind']}-{meta['name']}"
        if manifest["kind"] == "Deployment":
            live["status"] = {
                "readyReplicas": manifest["spec"]["replicas"],
                "observedGeneration": 1,
            }
        self.children[manifest["kind"], meta["name"]] = live

    def _start_job(self, manifest: Mapping[str, Any]) -> None:
        meta = manifest["metadata"]
        task = WeightsTask.from_data(json.loads(meta["annotations"][names.ANNOTATION_TASK]))
        if meta["name"] in self.jobs:
            raise Conflict(f"Job {meta['name']} exists, and nothing of a Job can be changed")
        volume = manifest["spec"]["template"]["spec"]["volumes"][1:]
        for claim in (one["persistentVolumeClaim"]["claimName"] for one in volume):
            if task.node and ("PersistentVolumeClaim", claim) not in self.children:
                raise Conflict(f"Job {meta['name']} needs the claim {claim}, which is not there")
        uid = f"uid-{meta['name']}"
        job = WeightsJob(meta["name"], uid, task, self.now, waiting_since=self.now)
        self.jobs[meta["name"]] = job
        if task.kind is TaskKind.FETCH:
            self.fetched.append((task.node, task.key))

    def _work(self, job: WeightsJob) -> None:
        """A Job runs, and ends after a while, on a node that is well."""
        node = self.nodes.get(job.task.node) if job.task.node else None
        if job.task.node and (node is None or not node.ready):
            return
        if job.phase not in (JobPhase.WAITING, JobPhase.RUNNING):
            return
        if self.now - job.created_at < FETCH_SECONDS:
            self.jobs[job.name] = replace(job, phase=JobPhase.RUNNING, waiting_since=None)
            return
        reason = self.failing.get(job.task.node, "")
        phase = JobPhase.FAILED if reason else JobPhase.DONE
        told = self.facts if job.task.kind is TaskKind.READ else None
        message = f"{reason} it is." if reason else ""
        self.jobs[job.name] = replace(
            job,
            phase=phase,
            waiting_since=None,
            finished_at=self.now,
            facts=told,
            reason=reason,
            message=message,
        )

    def _verify(self, name: str) -> None:
        pod = self.pods.get(name)
        if pod is None:
            return
        good = pod.revision not in self.broken_revisions
        self.pods[name] = replace(pod, verified=good, verified_container=pod.container_id)

    # What happens by itself.

    def advance(self, seconds: float) -> None:
        """Let time pass: pods are bound, start and end."""
        self.now += seconds
        for job in list(self.jobs.values()):
            self._work(job)
        for pod in list(self.pods.values()):
            self._live(pod)

    def schedule(self, pod: Replica) -> Replica:
        """What the scheduler does with a pod that names no node: the first that has room."""
        selector = self.selectors[pod.name]
        for node in (self._with_holds(one) for one in self.nodes.values()):
            held = sum(hold.count for hold in node.holds)
            open_ = node.ready and not node.unschedulable and selector.accepts(node)
            if open_ and node.allocatable.get(GPU, 0) - held >= pod.gpus:
                return replace(pod, node=node.name, bound=True, unschedulable="")
        return replace(pod, unschedulable="0 nodes are available.")

    def _live(self, pod: Replica) -> None:
        if not pod.node:
            self.pods[pod.name] = self.schedule(pod)
            return
        node = self.nodes.get(pod.node)
        if node is None or not node.ready or pod.phase in ("Failed", "Succeeded"):
            return
        if pod.terminating:
            if self.now - self.deleting_since[pod.name] >= STOP_SECONDS:
                self._gone(pod.name)
            return
        if pod.node in self.refusing and not pod.bound:
            message, since = "1 Insufficient memory.", pod.created_at
            self.pods[pod.name] = replace(pod, unschedulable=message, unschedulable_since=since)
            return
        started = self.now - pod.created_at >= START_SECONDS
        container = pod.container_id or f"container-{pod.uid}"
        self.pods[pod.name] = replace(
            pod,
            bound=True,
            unschedulable="",
            phase="Running",
            container_id=container,
            containers_ready=started,
        )

    def settle(self, rounds: int = 400, seconds: float = 5.0) -> int:
        """Reconcile until a plan has no action and nothing is starting. Returns the rounds."""
        for count in range(rounds):
            result = self.reconcile()
            self.advance(seconds)
            after = self.plan()
            if not (result.actions or after.actions or after.verify) and self._calm():
                return count
        raise AssertionError(f"no fixed point: {[type(a).__name__ for a in result.actions]}")

    def _calm(self) -> bool:
        moving = [
            pod
            for pod in self.pods.values()
            if not pod.containers_ready or pod.terminating or pod.draining_since is not None
        ]
        sound = {name for name, node in self.nodes.items() if node.ready}
        if any(job.phase in (JobPhase.WAITING, JobPhase.RUNNING) for job in self.jobs.values()):
            return False
        return not [pod for pod in moving if pod.node in sound and pod.phase != "Failed"]

    # What tests do to it.

    def edit(self, **changes: Any) -> None:
        """Replace parts of the spec by dotted path, as a user's edit does: a new generation."""
        for path, value in changes.items():
            target = self.spec
            *parents, last = path.split("__")
            for name in parents:
                target = target.setdefault(name, {})
            target[last] = value
        self.generation += 1

    def set_node(self, name: str, **changes: Any) -> None:
        """Change a node."""
        self.nodes[name] = replace(self.nodes[name], **changes)

    def change(self, pod: str, **changes: Any) -> None:
        """Change what is observed of a pod."""
        self.pods[pod] = replace(self.pods[pod], **changes)

    def check_capacity(self, name: str) -> None:
        """A node may not be given more than it has, and a sick one nothing."""
        node = self._with_holds(self.nodes[name])
        held = sum(hold.count for hold in node.holds)
        if held > node.allocatable.get(GPU, 0):
            raise Conflict(f"{held} GPUs held on {name}, which has {node.allocatable}")
        if node.unschedulable or not node.ready:
            raise Conflict(f"a pod was put on {name}, which takes none")

    def held_by_us(self, name: str) -> int:
        """GPUs of a node that our pods hold."""
        living = [pod for pod in self.pods.values() if pod.phase not in ("Failed", "Succeeded")]
        return sum(pod.gpus for pod in living if pod.node == name)

    def of(self, tier: str) -> list[Replica]:
        """The living replicas of a tier."""
        return [
            pod
            for pod in self.pods.values()
            if pod.tier == tier and not pod.terminating and pod.phase != "Failed"
        ]

    def routable(self, tier: str) -> list[str]:
        """Names of a tier's routable replicas."""
        return sorted(pod.name for pod in self.of(tier) if pod.routable)


def pinned_node(manifest: Mapping[str, Any]) -> str:
    """The node that a pod's required affinity names."""
    affinity = manifest["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms: Sequence[Any] = required.get("nodeSelectorTerms", [])
    fields = [field for term in terms for field in term.get("matchFields", ())]
    return str(fields[0]["values"][0]) if fields else ""
