"""The operator as a plain process beside a cluster, to be killed at any moment."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glm_dev.kubectl import wait_for

PORTS = re.compile(r"health on port (\d+), metrics on port (\d+)")
START_SECONDS = 60


@dataclass
class OperatorProcess:
    """`glm-operator run` with settings of its own; may be started and killed again and again."""

    kubeconfig: Path
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None
    _offset: int = 0

    def start(self, *, leading: bool = True) -> None:
        """Start it and wait until it works, or with `leading` false until it waits its turn."""
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "glm_operator.cli", "run"]
        command += ["--kubeconfig", str(self.kubeconfig), "--health-port", "0"]
        command += ["--metrics-port", "0"]
        for name, value in self.settings.items():
            command += [f"--{name}", value]
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environment(),
            )
        path, wanted = ("/readyz", 200) if leading else ("/readyz", 503)
        wait_for("the operator", lambda: self._status(path) == wanted, START_SECONDS, every=0.05)

    def _environment(self) -> dict[str, str]:
        """Compiled modules are kept, so that starting again takes a second and not four."""
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(self.log.parent / "pycache")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment

    def run_for(self, seconds: float) -> None:
        """Let it work for an exact time: the moment of its death is what a test chooses."""
        time.sleep(seconds)

    def kill(self) -> None:
        """As a lost machine would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As Kubernetes stops a pod; returns the exit code."""
        return self._end(signal.SIGTERM)

    def exit_code(self, timeout: float) -> int:
        """Wait for it to end by itself."""
        assert self._process is not None
        return self._process.wait(timeout)

    def suspend(self) -> None:
        """Stop it without it noticing, as a paused virtual machine."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        self._process.send_signal(signal.SIGCONT)
        code = self._process.wait(30)
        self._process = None
        return code

    def said(self) -> str:
        """What it wrote since it was started last."""
        with self.log.open("rb") as text:
            text.seek(self._offset)
            return text.read().decode(errors="replace")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 where there is none."""
        body = self._get(self._port(1), "/metrics")[1]
        total = 0.0
        for line in body.splitlines():
            series, _, value = line.rpartition(" ")
            base = series.partition("{")[0]
            if base == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def _status(self, path: str) -> int:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the operator ended:\n{self.said()[-3000:]}")
        port = self._port(0)
        return self._get(port, path)[0] if port else 0

    def _port(self, index: int) -> int:
        found = PORTS.search(self.said())
        return int(found.groups()[index]) if found else 0

    def _get(self, port: int, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""


@contextmanager
def operator(kubeconfig: Path, log: Path, **settings: Any) -> Iterator[OperatorProcess]:
    """One that is stopped at the end, whatever happened."""
    flags = {name.replace("_", "-"): str(value) for name, value in settings.items()}
    process = OperatorProcess(kubeconfig, log, flags)
    try:
        yield process
    finally:
        process.kill()
