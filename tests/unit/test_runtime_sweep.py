"""Volumes whose object is gone are deleted, and no others."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fake_cluster import FakeCluster, refuse_kind
from glm_operator.kube.errors import ConflictError, LeaseLostError, UnavailableError
from glm_operator.manifests.labels import Owner
from glm_operator.manifests.weights import node_volume, volume_name
from glm_operator.runtime import sweep as sweeping
from glm_operator.runtime.sweep import sweep, sweep_for_ever
from shell import glm_deployment

GONE = Owner("vision", "ml", "uid-gone")
ELSEWHERE = Owner("vision", "other", "uid-elsewhere")


def cluster_with(*owners: Owner) -> tuple[FakeCluster, Owner]:
    """A cluster with one object, with volumes of it and of others, and with somebody else's."""
    cluster = FakeCluster()
    living = Owner("vision", "ml", cluster.put(glm_deployment())["metadata"]["uid"])
    for owner in (living, *owners):
        cluster.put(node_volume(owner, "gpu-1", "gpu-1", "/var/lib/x/ml", []))
    metadata = {"name": "somebodys", "labels": {"app": "database"}}
    cluster.put({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata})
    return cluster, living


def volumes(cluster: FakeCluster) -> set[str]:
    return {name for kind, _, name in cluster.objects if kind == "PersistentVolume"}


def kept(*owners: Owner) -> set[str]:
    return {"somebodys", *(volume_name(owner, "gpu-1") for owner in owners)}


def test_volumes_of_objects_that_are_gone_are_deleted() -> None:
    cluster, living = cluster_with(GONE)
    assert asyncio.run(sweep(cluster, ())) == 1
    assert volumes(cluster) == kept(living)


def test_an_object_of_the_same_name_saves_no_volume_of_an_earlier_one() -> None:
    cluster, living = cluster_with(Owner("vision", "ml", "uid-earlier"))
    asyncio.run(sweep(cluster, ("ml",)))
    assert volumes(cluster) == kept(living)


def test_volumes_of_namespaces_that_others_serve_are_left_alone() -> None:
    cluster, living = cluster_with(GONE, ELSEWHERE)
    assert asyncio.run(sweep(cluster, ("ml",))) == 1
    assert volumes(cluster) == kept(living, ELSEWHERE)


def test_without_volumes_nothing_else_is_asked() -> None:
    cluster = FakeCluster()
    assert asyncio.run(sweep(cluster, ())) == 0


def test_a_volume_that_was_made_anew_meanwhile_is_not_deleted() -> None:
    cluster, _ = cluster_with(GONE)
    name = volume_name(GONE, "gpu-1")

    def replace(verb: str, manifest: object) -> None:
        cluster.objects["PersistentVolume", "", name]["metadata"]["uid"] = "uid-later"

    cluster.before_write = replace
    with pytest.raises(ConflictError):
        asyncio.run(sweep(cluster, ()))
    assert name in volumes(cluster)


def test_a_sweep_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cluster, living = cluster_with(GONE)
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 0.0)

    async def watched() -> None:
        tries, swept = iter(range(3)), asyncio.Event()

        def fail_twice(verb: str, manifest: object) -> None:
            if next(tries) < 2:
                raise UnavailableError("the API server is away")
            swept.set()

        cluster.before_write = fail_twice
        task = asyncio.create_task(sweep_for_ever(cluster, ()))
        await swept.wait()
        task.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(watched())
    assert volumes(cluster) == kept(living)
    assert caplog.text.count("could not be swept: the API server is away") == 2


def test_a_process_that_lost_its_lease_sweeps_no_more() -> None:
    cluster, _ = cluster_with(GONE)
    refuse_kind(cluster, "PersistentVolume", LeaseLostError("another process leads"))
    with pytest.raises(LeaseLostError):
        asyncio.run(sweep_for_ever(cluster, ()))
