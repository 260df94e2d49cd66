"""The shell around a `FakeCluster`: everything of one operator process except its threads.

Time moves only when the test says so, and the engines answer as the test says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fake_cluster import FakeCluster, gpu_node
from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.events import EventRecorder
from glm_operator.kube.resources import NODE, POD
from glm_operator.kube.watch import Snapshot, key_of
from glm_operator.plan.observed import Defaults
from glm_operator.plan.planner import plan
from glm_operator.runtime.gateways import POLL_SECONDS, GatewayPoller
from glm_operator.runtime.http import NoAnswerError
from glm_operator.runtime.inventory import Affected, Inventory, trim_pod
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.priorities import Priorities
from glm_operator.runtime.reconciler import Outcome, Parts, Planner, Reconciler
from glm_operator.runtime.verifier import Verifier
from glm_operator.runtime.weights import WeightsPoller

KEY = ("ml", "vision")
Answer = tuple[int, Any]


def right_engine(body: Mapping[str, Any]) -> Answer:
    """An engine that returns exactly the tool call it is asked for."""
    (tool,) = body["tools"]
    properties = tool["function"]["parameters"]["properties"]
    arguments = {name: schema["enum"][0] for name, schema in properties.items()}
    call = {"function": {"name": tool["function"]["name"], "arguments": json.dumps(arguments)}}
    return 200, {"choices": [{"message": {"content": "", "tool_calls": [call]}}]}


def glm_deployment(**spec: Any) -> dict[str, Any]:
    """A GLMDeployment with both tiers; `spec` replaces parts of its spec."""
    tiers = {
        "flagship": {
            "model": {
                "preset": "GLM-4.6V",
                "uri": "image:///models/flagship",
                "quantization": "FP8",
            },
            "parallelism": {"tensor": "4"},
        },
        "flash": {
            "model": {
                "preset": "GLM-4.6V-Flash",
                "uri": "image:///models/flash",
                "quantization": "BF16",
            },
            "replicas": 2,
            "scaling": {"mode": "Off"},
        },
    }
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": "vision", "namespace": "ml"},
        "spec": {"tiers": tiers, **spec},
    }


@dataclass
class Shell:
    """One operator, and the cluster it works on."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    engine: Callable[[Mapping[str, Any]], Answer] = right_engine
    states: dict[str, Any] = field(default_factory=dict)
    """`/state` of gateways by pod address."""
    planner: Planner = plan
    woken: list[tuple[str, str]] = field(default_factory=list)
    affected: list[Affected] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    @classmethod
    def with_nodes(cls, *nodes: str, gpus: int = 8, **given: Any) -> Shell:
        """A shell on a cluster with these GPU nodes."""
        shell = cls(**given)
        for name in nodes:
            shell.cluster.put(gpu_node(name, gpus))
        return shell

    def restart(self) -> None:
        """The process dies and another begins with nothing but the cluster."""
        self.metrics = Metrics()
        self.inventory = Inventory(
            self.affected.append, lambda: self.cluster.now, lambda seconds, work: None
        )
        self.priorities = Priorities(lambda: None)
        self.gateways = GatewayPoller(
            self,
            self.woken.append,
            self.metrics,
            monotonic=lambda: self.cluster.now,
        )
        self.verifier = Verifier(
            self.cluster,
            self,
            lambda key, seconds: self.woken.append(key),
            self.metrics,
            wall=lambda: self.cluster.now,
            random=lambda: 0.5,
            sleep=self._sleep,
        )
        parts = Parts(
            cluster=self.cluster,
            inventory=self.inventory,
            priorities=self.priorities,
            gateways=self.gateways,
            weights=WeightsPoller(self, self.woken.append, monotonic=lambda: self.cluster.now),
            verifier=self.verifier,
            events=EventRecorder(self.cluster, "operator-1", lambda: self.cluster.now),
            metrics=self.metrics,
            planner=self.planner,
            defaults=Defaults(),
            wall=lambda: self.cluster.now,
            wake=self.woken.append,
        )
        self.reconciler = Reconciler(parts)

    def once(self, key: tuple[str, str] = KEY) -> Outcome:
        """One pass, and the checks that it began."""

        async def main() -> Outcome:
            self.feed()
            outcome = await self.reconciler.reconcile(key)
            checks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            await asyncio.gather(*checks)
            return outcome

        return asyncio.run(main())

    def poll(self) -> None:
        """A second later every gateway is asked."""
        self.cluster.now += POLL_SECONDS

        async def main() -> None:
            await asyncio.gather(*self.gateways.due())

        asyncio.run(main())

    def until_still(self, limit: int = 30) -> int:
        """Passes, with schedulers and kubelets at work between them, until nothing is written."""
        for number in range(limit):
            before = len(self.cluster.writes)
            self.once()
            self.cluster.settle()
            self.cluster.finish_deletions()
            self.cluster.now += 5
            if len(self.cluster.writes) == before:
                return number
        raise AssertionError(f"still writing after {limit} passes: {self.cluster.writes[-10:]}")

    def feed(self) -> None:
        """Bring the inventory up to date, as its watches would."""
        nodes = [item for place, item in self.cluster.objects.items() if place[0] == NODE.kind]
        pods = [item for place, item in self.cluster.objects.items() if place[0] == POD.kind]
        self.inventory.node_change(Snapshot({key_of(one): convert.node_of(one) for one in nodes}))
        held = {key_of(pod): holder for pod in pods if (holder := trim_pod(pod)) is not None}
        self.inventory.pod_change(Snapshot(held))

    async def get(self, url: str, seconds: float) -> Answer:
        """A gateway's answer."""
        address = url.removeprefix("http://").partition(":")[0]
        if address not in self.states:
            raise NoAnswerError("connection refused")
        return 200, self.states[address]

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> Answer:
        """An engine's answer."""
        if url.endswith("/tokenize"):
            return 200, {"tokens": [ord(letter) for letter in body["prompt"]]}
        return self.engine(body)

    async def _sleep(self, seconds: float) -> None:
        self.cluster.now += seconds

    def condition(self, kind: str) -> Mapping[str, Any]:
        """One condition of the stored status."""
        return convert.condition(self.stored(), kind)

    def stored(self) -> dict[str, Any]:
        """The object as stored."""
        return self.cluster.objects[names.KIND, *KEY]
