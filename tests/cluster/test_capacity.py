"""What others allow and take away, on real control plane and kubelets: GPUs, quotas, policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from glm_operator.kube.resources import NODE
from reconcile_stage import Room, Stage, flash, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("operator")) as opened:
        yield opened


@pytest.fixture
def room(scene: Stage) -> Iterator[Room]:
    with scene.room() as opened:
        yield opened


def passes(scene: Stage) -> float:
    return scene.operator.metric("glm_operator_reconcile_seconds_count")


@contextmanager
def no_gpu(scene: Stage) -> Iterator[None]:
    """Every node is Ready and offers none, as after a restart of the device plugin."""
    places = [(node, gpu) for node in ("node-1", "node-2") for gpu in range(8)]
    try:
        for place in places:
            scene.cluster.set_gpu_health(*place, healthy=False)
        yield
    finally:
        for place in places:
            scene.cluster.set_gpu_health(*place, healthy=True)


def offered(scene: Stage) -> set[str]:
    nodes = scene.api.get(NODE.path())["items"]
    return {node["status"]["allocatable"]["nvidia.com/gpu"] for node in nodes}


def test_gpus_that_are_away_for_seconds_change_no_plan(scene: Stage, room: Room) -> None:
    room.create({"flash": flash()}, mode="Plan")
    before = room.wait("Planned", "True", "Fits")
    with no_gpu(scene):
        room.until("the kubelets to offer no GPU", lambda: offered(scene) == {"0"})
        done = passes(scene)
        room.until("more passes", lambda: passes(scene) >= done + 3)
        assert offered(scene) == {"0"}
        assert room.wait("Planned", "True", "Fits") == before
    room.until("the GPUs to be back", lambda: offered(scene) == {"8"})
