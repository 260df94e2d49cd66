"""`glm-weights` against the small hub: in this process, or as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glm_dev.hub import configs
from glm_dev.hub.checkpoints import make_checkpoint
from glm_dev.hub.server import Hub
from glm_serving.weights import cli
from glm_serving.weights.copy import Place, checkpoint_key
from glm_serving.weights.disk import Free, free_bytes
from glm_serving.weights.hub import Access
from glm_serving.weights.progress import Progress
from glm_serving.weights.result import Result
from glm_serving.weights.tasks import World

NAME = "zai-org/GLM-4.6V"
SOURCE = f"hf://{NAME}"
BIG = "model-00001-of-00001.safetensors"
"""The only file of weights of a checkpoint of one shard."""
WAIT_SECONDS = 20.0


@dataclass
class Site:
    """A hub with one tiny checkpoint, and a disk for its copy."""

    hub: Hub
    url: str
    folder: Path
    """What was published."""
    commit: str
    disk: Path
    pauses: list[float] = field(default_factory=list)
    """Seconds that the last run in this process would have waited."""

    @property
    def place(self) -> Place:
        """Where the copy is to be."""
        return Place(self.disk, checkpoint_key(NAME, self.commit))

    @property
    def fetching(self) -> tuple[str, ...]:
        """The command line that fetches the checkpoint."""
        return ("fetch", "--source", SOURCE, "--revision", self.commit, "--into", str(self.disk))

    def run(self, *words: str, token: str = "", free: Free = free_bytes) -> Result:
        """Run a command in this process; its pauses take no time."""
        self.pauses.clear()
        access = Access(self.url, token)
        world = World(access, Progress(), pause=self.pauses.append, free=free)
        return cli.run(cli.parse(words), world)

    def fetch(self, *, token: str = "", free: Free = free_bytes) -> Result:
        """Fetch the checkpoint in this process."""
        return self.run(*self.fetching, token=token, free=free)

    def read(self, *words: str, token: str = "") -> Result:
        """Read a repository in this process; without words the tiny checkpoint."""
        return self.run("read", *(words or ("--source", SOURCE)), token=token)

    @contextmanager
    def process(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """`glm-weights` in a process of its own, killed at the end if it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-m", "glm_serving.weights.cli", *(words or self.fetching)],
            env={**os.environ, "HF_ENDPOINT": self.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def site(tmp_path: Path, shard_bytes: int = 1 << 30) -> Iterator[Site]:
    """A running hub with a tiny GLM-4.6V."""
    config = configs.tiny(configs.flagship())
    folder = make_checkpoint(tmp_path / "published", config, shard_bytes=shard_bytes)
    hub = Hub()
    commit = hub.publish(NAME, folder)
    with hub.running() as url:
        yield Site(hub, url, folder, commit, tmp_path / "disk")


def state(port: int) -> dict[str, Any]:
    """What a running task answers to GET /state."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/state", timeout=5) as answer:
        told: dict[str, Any] = json.load(answer)
        return told


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
