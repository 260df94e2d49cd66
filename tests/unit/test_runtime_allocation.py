"""GPUs are given away one plan at a time, and nobody's routing waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from fake_cluster import FakeCluster, refuse_kind
from glm_operator.api import names
from glm_operator.kube.errors import KubeError, RefusedError
from glm_operator.runtime.loop import Loop, Periods
from glm_operator.runtime.queue import Queue
from shell import KEY, Shell, glm_deployment

GPU = "nvidia.com/gpu"
OTHER, THIRD = ("ml", "other"), ("ml", "third")


def named(name: str, *tiers: str) -> dict[str, Any]:
    """An object of that name with these tiers only."""
    item = glm_deployment()
    item["metadata"]["name"] = name
    item["spec"]["tiers"] = {tier: item["spec"]["tiers"][tier] for tier in tiers}
    return item


def test_two_objects_planned_at_the_same_time_do_not_share_gpus() -> None:
    shell = Shell.with_nodes("gpu-1")
    for name in ("vision", "other"):
        shell.cluster.put(named(name, "flagship", "flash"))

    async def both() -> None:
        shell.feed()
        await asyncio.gather(*(shell.reconciler.reconcile(key) for key in (KEY, OTHER)))
        assert len(shell.woken) == 1, "one had its turn, the other was woken for its own"
        await shell.reconciler.reconcile(shell.woken.pop())

    asyncio.run(both())
    shell.feed()
    (node,) = shell.inventory.nodes()
    assert sum(hold.count for hold in node.holds) <= 8
    assert len(shell.cluster.pods()) == 3
    assert len(shell.reconciler.waiting()) == 1


@dataclass
class SlowCluster(FakeCluster):
    """Creates pods only while `go_on` is set, as behind a slow webhook."""

    creating: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        if manifest["kind"] == "Pod":
            self.creating.set()
            await self.go_on.wait()
        return await super().create(manifest, dry_run=dry_run)


def test_a_pass_whose_turn_it_is_not_does_the_rest_and_ends() -> None:
    cluster = SlowCluster()
    shell = Shell.with_nodes("gpu-1", cluster=cluster)
    for name in ("vision", "other"):
        shell.cluster.put(named(name, "flash"))

    async def main() -> None:
        shell.feed()
        first = asyncio.create_task(shell.reconciler.reconcile(KEY))
        await cluster.creating.wait()
        outcome = await asyncio.wait_for(shell.reconciler.reconcile(OTHER), 5)
        assert outcome.waits
        assert ("Service", "ml", "other-flash") in cluster.objects
        assert shell.woken == []
        cluster.go_on.set()
        await first
        assert shell.woken == [OTHER]
        assert not (await shell.reconciler.reconcile(shell.woken.pop())).waits

    asyncio.run(main())
    owners = [pod["metadata"]["labels"][names.LABEL_DEPLOYMENT] for pod in cluster.pods()]
    assert owners == ["other", "other", "vision", "vision"]


@pytest.mark.parametrize(
    "ending",
    [
        lambda cluster: cluster.objects.pop((names.KIND, "ml", "other")),
        lambda cluster: refuse_kind(cluster, "Pod", RefusedError("no")),
    ],
    ids=["its object is gone", "its pods are refused"],
)
def test_a_turn_is_given_on_however_a_pass_ends(ending: Callable[[FakeCluster], None]) -> None:
    cluster = SlowCluster()
    shell = Shell.with_nodes("gpu-1", cluster=cluster)
    for name in ("vision", "other", "third"):
        shell.cluster.put(named(name, "flash"))

    async def main() -> None:
        shell.feed()
        first = asyncio.create_task(shell.reconciler.reconcile(KEY))
        await cluster.creating.wait()
        for key in (OTHER, THIRD):
            await shell.reconciler.reconcile(key)
        cluster.go_on.set()
        await first
        ending(cluster)
        with suppress(RefusedError):
            await shell.reconciler.reconcile(OTHER)

    asyncio.run(main())
    assert list(dict.fromkeys(shell.woken)) == [OTHER, THIRD]


def loop_of(shell: Shell, queue: Queue) -> Loop:
    """Workers of the shell's operator, without anything that comes by the clock."""
    return Loop(
        queue,
        shell.reconciler,
        monotonic=lambda: 0.0,
        random=lambda: 0.5,
        periods=Periods(600.0, 600.0),
    )


def served(*waiting: str) -> tuple[Shell, SlowCluster]:
    """A deployment that is served, where pods of these others cannot be created just now."""
    cluster = SlowCluster()
    cluster.go_on.set()
    shell = Shell.with_nodes("gpu-1", "gpu-2", "gpu-3", cluster=cluster)
    shell.cluster.put(glm_deployment())
    shell.until_still()
    for name in waiting:
        shell.cluster.put(named(name, "flash"))
    cluster.go_on.clear()
    cluster.creating.clear()
    return shell, cluster


def test_a_replica_leaves_routing_while_every_other_object_wants_gpus() -> None:
    shell, cluster = served("other", "third")
    victim = cluster.pods()[0]["metadata"]["name"]
    left = asyncio.Event()

    def watch(verb: str, manifest: dict[str, Any]) -> None:
        if (verb, manifest["metadata"]["name"]) == ("patch", victim):
            left.set()

    cluster.before_write = watch

    async def main() -> None:
        shell.feed()
        queue = Queue(lambda: 0.0, lambda: 0.5)
        loop = loop_of(shell, queue)
        queue.add(OTHER)
        queue.add(THIRD)
        workers = [asyncio.create_task(loop.work(shell.inventory.synced)) for _ in range(2)]
        await cluster.creating.wait()
        cluster.restart_container(victim)
        queue.add(KEY)
        try:
            await asyncio.wait_for(left.wait(), 5)
        finally:
            loop.stop()
            cluster.go_on.set()
            await asyncio.gather(*workers)

    asyncio.run(main())
    assert names.LABEL_ROUTABLE not in cluster.objects["Pod", "ml", victim]["metadata"]["labels"]


def test_gpus_taken_by_others_after_the_plan_are_not_handed_out() -> None:
    shell = Shell.with_nodes("gpu-1")
    shell.cluster.put(glm_deployment())

    def squat() -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "job", "namespace": "other"},
            "spec": {
                "nodeName": "gpu-1",
                "containers": [{"name": "c", "resources": {"limits": {GPU: "8"}}}],
            },
        }
        shell.cluster.put(pod)

    async def main() -> None:
        shell.feed()
        squat()
        await shell.reconciler.reconcile(KEY)

    with pytest.raises(KubeError, match="has 0 free"):
        asyncio.run(main())
    assert shell.cluster.pods() == []
