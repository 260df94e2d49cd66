"""GPUs that are offered by dynamic resource allocation only: told, not taken for none at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cluster_model import GPU
from fake_cluster import FakeCluster
from glm_operator.kube.errors import KubeError, NotFoundError, RefusedError
from glm_operator.kube.read import read_drivers
from glm_operator.kube.resources import RESOURCE_SLICE, Resource
from glm_operator.plan.planner import plan
from plan_builders import FLASH, cluster, nodes
from shell import Shell, glm_deployment

DRIVER = "gpu.nvidia.com"


def slice_of(node: str, driver: str = DRIVER) -> dict[str, Any]:
    return {
        "apiVersion": RESOURCE_SLICE.api_version,
        "kind": RESOURCE_SLICE.kind,
        "metadata": {"name": f"{node}-{driver}"},
        "spec": {"driver": driver, "nodeName": node},
    }


def planned(drivers: frozenset[str]) -> tuple[str, str]:
    made = cluster(flash=FLASH)
    bare = tuple(replace(node, allocatable={}) for node in nodes(8, 8).values())
    observed = replace(made.observed(), nodes=bare, drivers=drivers)
    conditions = plan(observed, made.now, made.defaults).status["conditions"]
    found = next(one for one in conditions if one["type"] == "Planned")
    return found["reason"], found["message"]


def test_a_cluster_that_offers_gpus_only_by_dra_says_so_with_the_way_out() -> None:
    reason, message = planned(frozenset({DRIVER}))
    assert reason == "OnlyDRA"
    assert message.startswith(f"flagship: no node of this cluster offers {GPU}, and {DRIVER} ")
    assert message.endswith("run the vendor's device plugin on the GPU nodes.")


@pytest.mark.parametrize("drivers", [frozenset(), frozenset({"gpu.amd.com"})])
def test_no_gpu_of_the_kind_asked_for_is_no_gpu(drivers: frozenset[str]) -> None:
    reason, message = planned(drivers)
    assert reason == "DoesNotFit"
    assert message.startswith(f"flagship: no node of this cluster offers {GPU}. It would fit with")


class Reader(FakeCluster):
    """Counts what is read of resource slices, and may refuse it."""

    error: KubeError | None = None
    asked: tuple[str, ...] = ()

    async def find(
        self, resource: Resource, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        if resource is RESOURCE_SLICE:
            self.asked += (fields,)
            if self.error is not None:
                raise self.error
        return await super().find(resource, namespace, labels=labels, fields=fields)


def drivers(reader: Reader, *gpus: int) -> frozenset[str]:
    observed = replace(cluster(flash=FLASH).observed(), nodes=tuple(nodes(*gpus).values()))
    return asyncio.run(read_drivers(reader, observed))


def test_the_drivers_that_matter_are_found_by_their_slices() -> None:
    reader = Reader()
    reader.put(slice_of("gpu-1"))
    reader.put(slice_of("gpu-1", "nic.example.com"))
    assert drivers(reader, 0) == {DRIVER}
    assert reader.asked == (f"spec.driver={DRIVER}",)


def test_nothing_is_asked_where_nodes_offer_gpus() -> None:
    reader = Reader()
    assert drivers(reader, 8) == frozenset()
    assert reader.asked == ()


@pytest.mark.parametrize("error", [NotFoundError("no such API"), RefusedError("forbidden")])
def test_a_cluster_without_slices_to_read_has_none(error: KubeError) -> None:
    reader = Reader()
    reader.error = error
    assert drivers(reader) == frozenset()


def test_a_pass_tells_of_it() -> None:
    shell = Shell.with_nodes("gpu-1", gpus=0)
    shell.cluster.put(slice_of("gpu-1"))
    shell.cluster.put(glm_deployment())
    shell.once()
    assert shell.condition("Planned")["reason"] == "OnlyDRA"
