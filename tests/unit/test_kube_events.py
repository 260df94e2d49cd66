"""Events: the agreed shape, and each sentence once in a while."""

from __future__ import annotations

import asyncio

from fake_cluster import FakeCluster, refuse_kind
from glm_operator.kube.errors import RefusedError
from glm_operator.kube.events import NOTE_LIMIT, PER_REASON, WINDOW_SECONDS, EventRecorder
from glm_operator.kube.execute import Owner
from glm_operator.plan.actions import Event

OWNER = Owner("ml", "vision", "u1")
NEWS = Event("Normal", "ScaledUp", "flash from 1 to 2.")


class World:
    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.now = 1_700_000_000.25
        self.recorder = EventRecorder(self.cluster, "operator-1", lambda: self.now)

    def tell(self, event: Event = NEWS, owner: Owner = OWNER) -> None:
        asyncio.run(self.recorder.record(owner, event))

    def notes(self) -> list[str]:
        events = (item for place, item in self.cluster.objects.items() if place[0] == "Event")
        return [item["note"] for item in events]


def test_an_event_has_everything_that_the_api_asks_for() -> None:
    world = World()
    world.tell()
    (event,) = world.cluster.objects.values()
    assert event["apiVersion"] == "events.k8s.io/v1"
    assert event["eventTime"] == "2023-11-14T22:13:20.250000Z"
    assert event["regarding"]["uid"] == "u1"
    assert (event["type"], event["reason"]) == ("Normal", "ScaledUp")
    assert event["reportingController"]
    assert event["reportingInstance"]
    assert event["action"]


def test_the_same_sentence_is_said_once_in_a_window() -> None:
    world = World()
    world.tell()
    world.tell()
    assert len(world.notes()) == 1
    world.now += WINDOW_SECONDS
    world.tell()
    assert len(world.notes()) == 2


def test_the_same_sentence_of_another_object_is_said() -> None:
    world = World()
    world.tell()
    world.tell(owner=Owner("ml", "other", "u2"))
    assert len(world.notes()) == 2


def test_one_reason_does_not_flood() -> None:
    world = World()
    for number in range(PER_REASON * 3):
        world.tell(Event("Normal", "ScaledUp", f"to {number}"))
    assert len(world.notes()) == PER_REASON
    world.tell(Event("Normal", "ScaledDown", "to 1"))
    assert len(world.notes()) == PER_REASON + 1


def test_a_long_note_is_cut_to_what_the_server_takes() -> None:
    world = World()
    world.tell(Event("Warning", "Refused", "x" * 5000))
    assert [len(note) for note in world.notes()] == [NOTE_LIMIT]


def test_an_event_that_is_refused_fails_nothing() -> None:
    world = World()
    refuse_kind(world.cluster, "Event", RefusedError("no"))
    world.tell()
    assert world.notes() == []
