"""The Lease: one holder at a time, judged by the waiter's own clock."""

from __future__ import annotations

import asyncio

import pytest

from fake_cluster import FakeCluster, fail_at, run_again
from glm_operator.kube.errors import LeaseLostError
from glm_operator.kube.lease import Lease, LeaseSettings
from glm_operator.kube.resources import LEASE


class World:
    """A fake API server and a clock that sleeping moves."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.now = 0.0
        self.naps = 0
        self.milestones: dict[int, asyncio.Event] = {}

    def lease(self, who: str) -> Lease:
        return Lease(
            self.cluster,
            LeaseSettings("glm-system", who),
            monotonic=lambda: self.now,
            wall=lambda: 1_700_000_000.0 + self.now,
            random=lambda: 0.0,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps += 1
        if self.naps in self.milestones:
            self.milestones[self.naps].set()
        await asyncio.sleep(0)

    async def nap(self, number: int) -> None:
        """Wait until somebody has slept so often."""
        if self.naps < number:
            await self.milestones.setdefault(number, asyncio.Event()).wait()

    def holder(self) -> str:
        lease = self.cluster.objects[LEASE.kind, "glm-system", "glm-operator"]
        return str(lease["spec"]["holderIdentity"])


def test_the_first_takes_it_at_once() -> None:
    world = World()
    lease = world.lease("one")
    asyncio.run(lease.acquire())
    assert (world.holder(), world.naps, lease.is_held()) == ("one", 0, True)


def test_a_second_waits_a_whole_lease_of_silence() -> None:
    world = World()
    asyncio.run(world.lease("one").acquire())
    asyncio.run(world.lease("two").acquire())
    assert world.holder() == "two"
    assert 15.0 <= world.now <= 18.0


def test_a_holder_that_renews_is_not_succeeded() -> None:
    world = World()
    first, second = world.lease("one"), world.lease("two")

    async def compete() -> None:
        await first.acquire()
        keeping = asyncio.create_task(first.keep())
        waiting = asyncio.create_task(second.acquire())
        await world.nap(60)
        assert world.holder() == "one"
        for task in (keeping, waiting):
            task.cancel()
        await asyncio.gather(keeping, waiting, return_exceptions=True)

    asyncio.run(compete())


def test_a_given_back_lease_is_taken_at_once() -> None:
    world = World()
    first = world.lease("one")

    async def hand_over() -> None:
        await first.acquire()
        await first.release()
        await world.lease("two").acquire()

    asyncio.run(hand_over())
    assert (world.holder(), world.now, first.is_held()) == ("two", 0.0, False)


def test_a_restarted_container_takes_its_own_lease_up_at_once() -> None:
    world = World()
    asyncio.run(world.lease("pod-1").acquire())
    asyncio.run(world.lease("pod-1").acquire())
    assert world.now == 0.0


def test_a_silent_api_server_ends_the_holder_before_a_successor_may_begin() -> None:
    world = World()
    lease = world.lease("one")

    async def lose() -> None:
        await lease.acquire()
        fail_at(world.cluster, 1)
        await lease.keep()

    with pytest.raises(LeaseLostError, match="not renewed within 10 s"):
        asyncio.run(lose())
    assert world.now < 15.0


def test_a_short_silence_is_survived() -> None:
    world = World()
    lease = world.lease("one")

    async def survive() -> None:
        await lease.acquire()
        fail_at(world.cluster, 1)
        keeping = asyncio.create_task(lease.keep())
        await world.nap(3)
        run_again(world.cluster)
        await world.nap(20)
        assert lease.is_held()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    asyncio.run(survive())


def test_a_lease_that_somebody_took_is_lost_at_the_next_renewal() -> None:
    world = World()
    lease = world.lease("one")

    async def be_robbed() -> None:
        await lease.acquire()
        live = await world.cluster.get(LEASE, "glm-system", "glm-operator")
        live["spec"]["holderIdentity"] = "two"
        world.cluster.put(live)
        await lease.keep()

    with pytest.raises(LeaseLostError):
        asyncio.run(be_robbed())
    assert world.naps == 1


def test_a_suspended_process_may_not_write_when_it_wakes() -> None:
    world = World()
    lease = world.lease("one")
    asyncio.run(lease.acquire())
    lease.fence()
    world.now += 11
    with pytest.raises(LeaseLostError):
        lease.fence()
