"""Health, readiness and the scrape, over real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from fake_cluster import gpu_node
from glm_operator.kube import convert
from glm_operator.kube.watch import Put, Snapshot
from glm_operator.runtime.health import (
    HealthServer,
    Vitals,
    health_problem,
    readiness_problem,
)
from glm_operator.runtime.inventory import Inventory
from glm_operator.runtime.metrics import Metrics, gpu_totals
from glm_operator.runtime.queue import Queue

WELL = Vitals(leading=True, synced=True, queue_age=0.0, inventory_age=1.0)


@pytest.mark.parametrize(
    ("changes", "healthy", "ready"),
    [
        ({}, True, True),
        ({"leading": False}, True, False),
        ({"synced": False, "inventory_age": 299.0}, True, False),
        ({"synced": False, "inventory_age": 301.0}, False, False),
        ({"leading": False, "synced": False, "inventory_age": 301.0}, True, False),
        ({"queue_age": 301.0}, False, False),
        ({"inventory_age": 301.0}, False, False),
    ],
    ids=[
        "well",
        "waiting for the Lease",
        "not listed yet",
        "never listed",
        "never listed, but not leading",
        "stuck queue",
        "silent watch",
    ],
)
def test_health_and_readiness(changes: dict[str, Any], healthy: bool, ready: bool) -> None:
    vitals = replace(WELL, **changes)
    assert (health_problem(vitals) == "") is healthy
    assert (readiness_problem(vitals) == "") is ready


def scrape(vitals: Vitals) -> dict[str, tuple[int, str]]:
    """All three pages."""

    async def main() -> dict[str, tuple[int, str]]:
        metrics = Metrics()
        queue = Queue(lambda: 5.0, lambda: 0.0)
        inventory = Inventory(lambda change: None, lambda: 5.0, lambda seconds, work: None)
        inventory.node_change(Snapshot({}))
        inventory.pod_change(Snapshot({}))
        inventory.node_change(Put(("", "gpu-1"), convert.node_of(gpu_node("gpu-1"))))
        server = HealthServer(lambda: vitals, metrics, lambda: metrics.refresh(queue, inventory))
        health, measured = await server.start(0, 0)
        pages = {"/healthz": health, "/readyz": health, "/metrics": measured}
        try:
            async with aiohttp.ClientSession() as session:
                return {path: await read(session, port, path) for path, port in pages.items()}
        finally:
            await server.close()

    return asyncio.run(main())


async def read(session: aiohttp.ClientSession, port: int, path: str) -> tuple[int, str]:
    async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def test_a_working_operator_answers_ok_and_shows_its_gpus() -> None:
    pages = scrape(WELL)
    assert pages["/healthz"] == (200, "ok")
    assert pages["/readyz"] == (200, "ok")
    assert 'glm_operator_gpus{resource="nvidia.com/gpu",state="free"} 8.0' in pages["/metrics"][1]


def test_a_stuck_operator_answers_why() -> None:
    status, text = scrape(replace(WELL, queue_age=400.0))["/healthz"]
    assert status == 503
    assert "waited 400 s" in text


def test_what_is_free_on_a_node_that_is_not_ready_is_of_no_use() -> None:
    raw = gpu_node("gpu-1")
    raw["status"]["conditions"] = []
    totals = gpu_totals([convert.node_of(raw)], {})
    assert totals["nvidia.com/gpu", "allocatable"] == 8
    assert totals["nvidia.com/gpu", "free"] == 0
