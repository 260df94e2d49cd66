"""Serves a tiny checkpoint with the real vLLM in a sandbox, as the example's engine pods do."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from glm_dev.engine.install import install
from glm_dev.engine.sandbox import Sandbox
from glm_dev.images.errors import BuildError
from glm_operator.manifests import arguments
from glm_operator.manifests.engine import EngineSpec

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "local.yaml"
SERVED_NAMES = {"flagship": "glm-4.6v", "flash": "glm-4.6v-flash"}
START_SECONDS = 300.0
STOP_SECONDS = 20.0
LAST_WORDS = 2000


@dataclass(frozen=True, slots=True)
class Served:
    """A running engine."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def terminate(self) -> None:
        """Send SIGTERM to the engine; the outermost process ignores it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text().split():
            os.kill(int(child), signal.SIGTERM)


def example_spec(tier: str, extra_args: Sequence[str] = ()) -> EngineSpec:
    """The engine of one tier of examples/local.yaml, with more arguments after its own."""
    given: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())["spec"]["tiers"][tier]
    engine = given["engine"]
    return EngineSpec(
        tier=tier,
        preset=given["model"]["preset"],
        served_name=SERVED_NAMES[tier],
        uri=given["model"]["uri"],
        image=engine["image"],
        tensor=int(given.get("parallelism", {}).get("tensor", "1")),
        max_model_len=given["context"]["maxModelLen"],
        extra_args=(*engine["extraArgs"], *extra_args),
        env=tuple((item["name"], item["value"]) for item in engine["env"]),
    )


@contextlib.contextmanager
def serving(spec: EngineSpec, log: Path, without: Sequence[str] = ()) -> Iterator[Served]:
    """Start the engine, wait until it is healthy, and end it and all its processes at the end.

    `without` names variables of the example to leave out.

    Raises:
        BuildError: it could not be installed, ended, or was not healthy within START_SECONDS.
    """
    installed = install()
    env = {e["name"]: e["value"] for e in arguments.environment(spec) if e["name"] not in without}
    inside = Sandbox(installed.root, installed.models, env=env)
    port = _free_port()
    flags = [*arguments.arguments(spec), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            inside.command([*arguments.COMMAND, *flags]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        served = Served(f"http://127.0.0.1:{port}", log, process)
        _await_health(served)
        yield served
    finally:
        process.kill()
        process.wait(STOP_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _await_health(served: Served) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _healthy(served.url):
        if served.process.poll() is not None:
            raise BuildError(f"the engine ended while it started:\n{_last_words(served.log)}")
        if time.monotonic() > deadline:
            raise BuildError(
                f"the engine was not healthy in {START_SECONDS:.0f} s:\n{_last_words(served.log)}"
            )
        time.sleep(0.25)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _last_words(log: Path) -> str:
    return log.read_text(errors="replace")[-LAST_WORDS:]
