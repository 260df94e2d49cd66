"""What the demo holds against a held request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from glm_dev.demo import stage
from glm_dev.demo.scenes import Answer
from glm_dev.site import Site

GATEWAY = "198.19.1.7"
LINE = f'INFO {GATEWAY}:4711 - "POST /v1/chat/completions HTTP/1.1" 200\n'
CHECK = LINE.replace(GATEWAY, "198.19.0.1")


class Log:
    """A kubectl that knows one gateway, and shows an engine's log as it grows."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    def list(self, kind: str, namespace: str, selector: str) -> list[Any]:
        return [{"status": {"podIP": GATEWAY}}]

    def run(self, *words: str) -> str:
        return self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]


def wrong(log: Log, seconds: float = 5.0) -> tuple[str, ...]:
    site = Site(log, Path("helm"), real_engine=False)
    answer = Answer("held", 200, "flash", "vision-flash-0", "text", "id", seconds, "8 characters")
    return stage.judge_held(site, "ml", answer).wrong


def test_a_log_that_is_behind_is_waited_for() -> None:
    assert wrong(Log(CHECK, CHECK, CHECK + LINE)) == ()


def test_a_request_that_reached_the_engine_twice_is_wrong() -> None:
    assert wrong(Log(LINE + LINE)) == (
        "the engine served 2 requests from the gateway instead of 1",
    )


def test_a_request_that_never_reached_the_engine_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "LOG_SECONDS", 0.0)
    assert wrong(Log(CHECK)) == ("the engine served 0 requests from the gateway instead of 1",)


def test_an_answer_that_came_at_once_was_never_held() -> None:
    assert wrong(Log(LINE), seconds=0.2) == ("answered after 0.20 s, so it was never held",)
