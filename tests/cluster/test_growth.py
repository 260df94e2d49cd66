"""Clusters that grow, on a real control plane: nodes appear when a pod waits for one, or do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from node_autoscaler import NodeAutoscaler
from reconcile_stage import NO_NODES, Room, Stage, flagship, stage

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

Json = dict[str, Any]
SHAPE = "2xH100-80GB"
POOL = {"pool": "grown"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """No nodes. The operator looks at nothing by itself."""
    folder = tmp_path_factory.mktemp("operator")
    with stage(folder, resync_seconds=600, nodes=NO_NODES) as opened:
        yield opened


@pytest.fixture
def nodes(scene: Stage) -> Iterator[NodeAutoscaler]:
    found = NodeAutoscaler(scene.cluster, scene.api, SHAPE, POOL)
    try:
        yield found
    finally:
        found.remove_all()


@pytest.fixture
def room(scene: Stage, nodes: NodeAutoscaler) -> Iterator[Room]:
    """Gone before the nodes are: pods of a node that is gone stay until they are collected."""
    assert not nodes.made
    with scene.room() as opened:
        yield opened


def growing(provisioning: str = "NodeAutoscaler", **asked: Any) -> Json:
    """A flagship of two replicas, each on two GPUs, on nodes of a pool that is empty."""
    placement = {
        "provisioning": provisioning,
        "nodeAutoscaler": {"nodeShape": SHAPE, **asked},
        "nodeSelector": POOL,
        "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    }
    return flagship(replicas=2, placement=placement)


def bound(room: Room) -> dict[str, str]:
    """Uid of each engine pod -> its node; empty while it has none."""
    pods = room.engines().values()
    return {pod["metadata"]["uid"]: pod["spec"].get("nodeName", "") for pod in pods}


def test_an_empty_cluster_grows_node_by_node(nodes: NodeAutoscaler, room: Room) -> None:
    room.create({"flagship": growing()})
    planned = room.wait("Planned", "False", "WaitingForNodes")
    assert "1 replica for a node of 2 x H100-80GB" in planned["message"]
    assert "1 replica more after that" in planned["message"]
    (first,) = bound(room)

    def grown(count: int) -> bool:
        nodes.look(room.namespace)
        places = bound(room)
        assert list(places.values()).count("") <= 1, "no more than may wait"
        return len([node for node in places.values() if node]) == count

    room.until("the first replica to be bound", lambda: grown(1))
    assert bound(room)[first] == "grown-1"
    room.until("the second replica to be bound", lambda: grown(2))
    assert sorted(bound(room).values()) == ["grown-1", "grown-2"]
    nodes.tell_gpus()
    room.wait("Planned", "True", "Fits")
    assert len(bound(room)) == len(nodes.made) == 2
    assert room.read()["status"]["plan"]["flagship"]["nodes"] == ["grown-1", "grown-2"]


def test_when_no_node_comes_the_replica_is_withdrawn_and_tried_again(room: Room) -> None:
    room.create({"flagship": growing(timeoutSeconds=10)})
    room.wait("Planned", "False", "WaitingForNodes")
    (first,) = bound(room)
    planned = room.wait("Planned", "False", "NodesDidNotCome")
    assert "a node of 2 x H100-80GB did not come within 10 s for 1 replica" in planned["message"]
    assert "no nodes available to schedule pods" in planned["message"]
    assert bound(room) == {}
    assert room.read()["status"]["tiers"]["flagship"]["nodeRequests"]["failures"] == 1
    room.until("another try", lambda: bound(room))
    assert first not in bound(room)


def test_a_node_autoscaler_is_woken_only_where_the_object_asks(
    nodes: NodeAutoscaler, room: Room
) -> None:
    room.create({"flagship": growing(provisioning="None")})
    room.wait("Planned", "False", "DoesNotFit")
    assert nodes.look(room.namespace) == 0
    room.edit({"tiers": {"flagship": {"placement": {"provisioning": "NodeAutoscaler"}}}})
    room.until("a node to be made", lambda: nodes.look(room.namespace) == 1)
