"""Engines are checked once at a time, and the gate says what came of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fake_cluster import FakeCluster, running_status
from glm_operator.api import names
from glm_operator.kube import convert
from glm_operator.kube.errors import UnavailableError
from glm_operator.plan.observed import Replica
from glm_operator.runtime.http import NoAnswerError
from glm_operator.runtime.metrics import Metrics
from glm_operator.runtime.verifier import Target, Verifier

KEY = ("ml", "vision")
NAME = "vision-flash-0b7d2e44-0"
Script = Callable[[Mapping[str, Any]], tuple[int, Any]]


def engine(body: Mapping[str, Any]) -> tuple[int, Any]:
    """An engine that answers both checks as it must."""
    (tool,) = body["tools"]
    (argument,) = tool["function"]["parameters"]["properties"]
    values = tool["function"]["parameters"]["properties"][argument]["enum"]
    return completion(tool["function"]["name"], {argument: values[0]})


def completion(tool: str, arguments: Mapping[str, str]) -> tuple[int, Any]:
    call = {"function": {"name": tool, "arguments": json.dumps(arguments)}}
    return 200, {"choices": [{"message": {"content": "", "tool_calls": [call]}}]}


def wrong_parser(body: Mapping[str, Any]) -> tuple[int, Any]:
    """A forced call comes back parsed whatever the parser; an unforced one is text."""
    if body["tool_choice"] == "required":
        return engine(body)
    return 200, {"choices": [{"message": {"content": body["structured_outputs"]["choice"][0]}}]}


@dataclass
class Scene:
    """One healthy engine pod, and a verifier that never really waits."""

    script: Script = engine
    cluster: FakeCluster = field(default_factory=FakeCluster)
    metrics: Metrics = field(default_factory=Metrics)
    later: list[tuple[tuple[str, str], float]] = field(default_factory=list)
    now: float = 1_700_000_000.0
    asked: list[str] = field(default_factory=list)
    on_sleep: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        labels = {
            names.LABEL_DEPLOYMENT: "vision",
            names.LABEL_TIER: "flash",
            names.LABEL_REVISION: "0b7d2e44",
        }
        self.cluster.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": NAME, "namespace": "ml", "uid": "u1", "labels": labels},
                "spec": {"containers": []},
                "status": running_status("u1"),
            }
        )
        self.verifier = Verifier(
            self.cluster,
            self,
            lambda key, seconds: self.later.append((key, seconds)),
            self.metrics,
            wall=lambda: self.now,
            random=lambda: 1.0,
            sleep=self.sleep,
        )

    async def get(self, url: str, seconds: float) -> tuple[int, Any]:
        raise AssertionError("engines are only posted to")

    async def post(self, url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
        if url.endswith("/tokenize"):
            return 200, {"tokens": [ord(letter) for letter in body["prompt"]]}
        self.asked.append(url)
        return self.script(body)

    async def sleep(self, seconds: float) -> None:
        self.on_sleep()

    def replica(self) -> Replica:
        return convert.replica_of(self.cluster.objects["Pod", "ml", NAME], "")

    def gate(self) -> Mapping[str, Any]:
        return convert.condition(self.cluster.objects["Pod", "ml", NAME], names.GATE_VERIFIED)

    def verify(self, times: int = 1) -> None:
        """Offer the pod as it is now, so often, and wait for what was started."""

        async def offer() -> None:
            for _ in range(times):
                self.verifier.offer(Target(KEY, self.replica(), "glm-4.6v-flash"))
            running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            await asyncio.gather(*running)

        asyncio.run(offer())

    def counted(self, result: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "glm_operator_verifications_total", {"tier": "flash", "result": result}
        )


def test_a_right_engine_is_verified_and_its_container_named() -> None:
    scene = Scene()
    scene.verify()
    replica = scene.replica()
    assert replica.verified is True
    assert replica.verified_container == replica.container_id == "containerd://u1"
    assert "containerd://u1" in replica.verify_message
    assert scene.asked == ["http://198.19.1.7:8000/v1/chat/completions"] * 2
    assert scene.counted("Verified") == 1
    assert scene.later == []


def test_the_gate_is_set_in_one_write() -> None:
    scene = Scene()
    scene.verify()
    assert [write.verb for write in scene.cluster.writes] == ["patch status"]


def test_a_wrong_parser_is_healthy_but_not_verified() -> None:
    scene = Scene(script=wrong_parser)
    scene.verify()
    gate = scene.gate()
    assert (gate["status"], gate["reason"]) == ("False", "ToolParserFailed")
    assert "expected restart(server=a)" in gate["message"]
    assert "<tool_call>restart" in gate["message"]
    assert scene.counted("ToolParserFailed") == 1


def test_a_failed_check_is_repeated_after_a_growing_delay_and_not_before() -> None:
    scene = Scene(script=wrong_parser)
    scene.verify()
    scene.verify()
    assert scene.later == [(KEY, 5.0)]
    scene.now += 5.0
    scene.verify()
    assert scene.later == [(KEY, 5.0), (KEY, 10.0)]


def test_the_same_failure_is_not_written_twice() -> None:
    scene = Scene(script=wrong_parser)
    scene.verify()
    scene.now += 60
    scene.verify()
    assert len(scene.cluster.writes) == 1


def test_an_engine_is_not_checked_twice_at_the_same_time() -> None:
    scene = Scene()
    scene.verify(times=3)
    assert len(scene.asked) == 2


def test_a_pod_without_an_address_is_not_asked() -> None:
    scene = Scene()
    scene.cluster.objects["Pod", "ml", NAME]["status"]["podIP"] = ""
    scene.verify()
    assert scene.asked == []


def dying(scene: Scene) -> Script:
    def script(body: Mapping[str, Any]) -> tuple[int, Any]:
        raise NoAnswerError("the connection failed (reset by peer)")

    scene.on_sleep = lambda: scene.cluster.restart_container(NAME, exit_code=0)
    return script


def test_an_engine_that_dies_at_its_first_image_is_named_with_its_last_termination() -> None:
    scene = Scene()
    scene.script = dying(scene)
    scene.verify()
    gate = scene.gate()
    assert (gate["status"], gate["reason"]) == ("False", "EngineDied")
    assert "ended during the image check: Completed, exit code 0" in gate["message"]
    assert scene.counted("EngineDied") == 1


def test_an_engine_that_answers_500_and_then_ends_is_named_with_its_termination() -> None:
    scene = Scene(script=lambda body: (500, {"error": {"message": "EngineCore failed"}}))
    scene.on_sleep = lambda: scene.cluster.restart_container(NAME, exit_code=0)
    scene.verify()
    assert scene.gate()["reason"] == "EngineDied"


def test_an_engine_that_answers_500_and_lives_on_is_judged_by_its_answer() -> None:
    scene = Scene(script=lambda body: (500, {"error": {"message": "EngineCore failed"}}))
    scene.verify()
    gate = scene.gate()
    assert gate["reason"] == "ImageCallFailed"
    assert "HTTP status 500: EngineCore failed" in gate["message"]


def test_an_engine_that_is_stuck_says_so() -> None:
    def script(body: Mapping[str, Any]) -> tuple[int, Any]:
        raise NoAnswerError("no answer within 120 s")

    scene = Scene(script=script)
    scene.verify()
    gate = scene.gate()
    assert (gate["status"], gate["reason"]) == ("False", "NoAnswer")
    assert "no answer within 120 s" in gate["message"]


def test_a_pod_that_was_replaced_meanwhile_is_left_alone() -> None:
    scene = Scene()

    def script(body: Mapping[str, Any]) -> tuple[int, Any]:
        scene.cluster.objects["Pod", "ml", NAME]["metadata"]["uid"] = "u2"
        return engine(body)

    scene.script = script
    scene.verify()
    assert scene.gate() == {}
    assert scene.later == []


def test_a_gate_that_could_not_be_written_is_tried_again() -> None:
    scene = Scene()

    def refuse(verb: str, manifest: dict[str, Any]) -> None:
        raise UnavailableError("no answer from the API server")

    scene.cluster.before_write = refuse
    scene.verify()
    assert scene.later == [(KEY, 5.0)]


def test_a_restarted_container_voids_the_gate_and_is_checked_anew() -> None:
    scene = Scene()
    scene.verify()
    scene.cluster.restart_container(NAME)
    asyncio.run(scene.verifier.void(KEY, scene.replica()))
    replica = scene.replica()
    assert (replica.verified, replica.verify_reason) == (False, "ContainerRestarted")
    assert "Error, exit code 1" in replica.verify_message
    scene.verify()
    replica = scene.replica()
    assert replica.verified is True
    assert replica.verified_container == "containerd://u1+"


def test_the_transition_time_moves_only_when_the_gate_flips() -> None:
    scene = Scene(script=wrong_parser)
    scene.verify()
    first = scene.gate()["lastTransitionTime"]
    scene.now += 60
    scene.script = lambda body: (500, "other words")
    scene.verify()
    assert scene.gate()["lastTransitionTime"] == first
    scene.now += 600
    scene.script = engine
    scene.verify()
    assert scene.gate()["lastTransitionTime"] != first


def test_what_is_forgotten_may_be_checked_at_once() -> None:
    scene = Scene(script=wrong_parser)
    scene.verify()
    scene.verifier.keep(KEY, ())
    scene.verify()
    assert len(scene.later) == 2


def test_closing_ends_checks_that_hang() -> None:
    async def main() -> None:
        scene = Scene()

        async def hang(url: str, body: Mapping[str, Any], seconds: float) -> tuple[int, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        scene.post = hang  # type: ignore[method-assign]
        scene.verifier.offer(Target(KEY, scene.replica(), "glm"))
        await asyncio.sleep(0)
        await asyncio.wait_for(scene.verifier.close(), 5)
        assert scene.cluster.writes == []

    asyncio.run(main())
