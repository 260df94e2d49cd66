"""Two objects and one GPU node on the real control plane: the order holds, whoever asks first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from glm_operator.kube.resources import POD, PRIORITY_CLASS
from reconcile_stage import Room, Stage, exists, flagship, job, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

Json = dict[str, Any]
NODE, GPUS, PROMPT_SECONDS = "node-1", 8, 5.0
"""Acting takes tens of milliseconds; a busy machine is allowed more. Nothing looks by the clock
earlier than after 30 s here."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The operator looks at nothing by itself: what it acts on, something told it of."""
    with stage(tmp_path_factory.mktemp("operator"), resync_seconds=600) as opened:
        yield opened


@pytest.fixture
def rooms(scene: Stage) -> Iterator[tuple[Room, Room]]:
    with scene.room() as first, scene.room() as second:
        yield first, second


def whole_node(**placement: Any) -> Json:
    """A flagship that takes all GPUs of the node."""
    return flagship(replicas=GPUS // 2, placement={"nodeNames": [NODE], **placement})


@contextmanager
def taken(scene: Stage) -> Iterator[str]:
    """Somebody else holds all GPUs of the node; gives the path of their pod."""
    others = POD.path("default")
    scene.api.create(others, job("theirs", NODE, GPUS))
    path = f"{others}/theirs"
    try:
        yield path
    finally:
        if exists(scene.api, path):
            scene.api.delete(path, {"gracePeriodSeconds": 0})


def gone(scene: Stage, path: str, room: Room) -> float:
    """End a pod; returns when it was seen to be gone."""
    scene.api.delete(path, {"gracePeriodSeconds": 1})
    room.until("the pod to be gone", lambda: not exists(scene.api, path), timeout=30)
    return time.monotonic()


def test_the_older_object_gets_the_gpus_that_become_free_at_once(
    scene: Stage, rooms: tuple[Room, Room]
) -> None:
    older, younger = rooms
    with taken(scene) as path:
        older.create({"flagship": whole_node()})
        older.wait("Planned", "False", "WaitingForGPUs")
        # Creation times have whole seconds: wait for the next one to be younger.
        born = older.read()["metadata"]["creationTimestamp"]
        older.until("a later second", lambda: _second(scene) > born)
        younger.create({"flagship": whole_node()})
        told = younger.wait("Planned", "False", "WaitingForGPUs")["message"]
        assert f"kept for {older.namespace}/vision flagship, which comes first (older)" in told
        since = gone(scene, path, older)
    older.until("the first replica", older.engines, timeout=PROMPT_SECONDS)
    print(f"the first replica came {time.monotonic() - since:.2f} s after the GPUs were free")
    older.until("all of it", lambda: len(older.engines()) == GPUS // 2)
    younger.wait("Planned", "False", "WaitingForGPUs")
    assert younger.engines() == {}
    older.delete()
    older.hurry()
    younger.until("its turn", lambda: len(younger.engines()) == GPUS // 2)


def _second(scene: Stage) -> str:
    """The time of the API server in whole seconds, as it would write it into an object now."""
    made = scene.api.create(
        "/api/v1/namespaces/default/configmaps?dryRun=All", {"metadata": {"name": "clock"}}
    )
    return str(made["metadata"]["creationTimestamp"])


@contextmanager
def priority(scene: Stage, name: str, value: int) -> Iterator[None]:
    """A PriorityClass that preempts nobody."""
    scene.api.create(
        PRIORITY_CLASS.path(),
        {"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"},
    )
    try:
        yield
    finally:
        scene.api.delete(PRIORITY_CLASS.path(name=name))


def test_a_higher_priority_comes_before_age_also_when_its_class_comes_last(
    scene: Stage, rooms: tuple[Room, Room]
) -> None:
    older, younger = rooms
    with taken(scene) as path:
        older.create({"flagship": whole_node()})
        older.wait("Planned", "False", "WaitingForGPUs")
        younger.create({"flagship": whole_node(priorityClassName="urgent")})
        told = younger.wait("Planned", "False", "PriorityClassMissing")["message"]
        assert "flagship names the PriorityClass urgent" in told
        with priority(scene, "urgent", 1000):
            younger.wait("Planned", "False", "WaitingForGPUs", timeout=PROMPT_SECONDS)
            gone(scene, path, younger)
            younger.until("all of it", lambda: len(younger.engines()) == GPUS // 2)
            assert older.engines() == {}


def test_a_new_operator_does_not_serve_a_younger_object_first(
    scene: Stage, rooms: tuple[Room, Room]
) -> None:
    older, younger = rooms
    with taken(scene) as path:
        older.create({"flagship": whole_node()})
        older.wait("Planned", "False", "WaitingForGPUs")
        born = older.read()["metadata"]["creationTimestamp"]
        older.until("a later second", lambda: _second(scene) > born)
        younger.create({"flagship": whole_node()})
        younger.wait("Planned", "False", "WaitingForGPUs")
        scene.operator.stop()
        gone(scene, path, older)
    scene.operator.start()
    older.until("all of it", lambda: len(older.engines()) == GPUS // 2)
    assert younger.engines() == {}
