"""A thin typed wrapper around the kubectl program, for the demo and the tests."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class KubectlError(RuntimeError):
    """kubectl ended with an error; the message is its own last sentence."""


class WaitTimeout(RuntimeError):
    """A condition did not become true in time."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl bound to one kubeconfig."""

    program: Path
    kubeconfig: Path

    def run(self, *args: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl and return what it printed. Raises KubectlError with its message."""
        done = subprocess.run(
            [str(self.program), *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment(),
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip() or done.stdout.strip())
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The environment for programs that talk to the same cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """One object as a dict."""
        out = self.run("get", kind, name, *_in(namespace), "-o", "json")
        return dict(json.loads(out))

    def list(self, kind: str, namespace: str | None = None, selector: str = "") -> list[Any]:
        """All objects of a kind as dicts; without a namespace, of all namespaces."""
        scope = _in(namespace) or ("--all-namespaces",)
        chosen = ("-l", selector) if selector else ()
        return list(json.loads(self.run("get", kind, *scope, *chosen, "-o", "json"))["items"])

    def apply(self, manifest: Mapping[str, Any] | str, namespace: str | None = None) -> str:
        """Server-side apply of one object or of YAML text; returns what kubectl printed."""
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(dict(manifest))
        return self.run("apply", "--server-side", *_in(namespace), "-f", "-", stdin=text)

    @contextlib.contextmanager
    def port_forward(self, target: str, port: int, namespace: str) -> Iterator[int]:
        """Forward a free local port to `target` (for example `svc/vision-gateway`)."""
        command = [str(self.program), "port-forward", "-n", namespace, target, f":{port}"]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", line)
            if not found:
                raise KubectlError(f"port-forward to {target}: {line.strip() or 'no answer'}")
            # kubectl prints a line for each connection and stops when nobody reads its pipe.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield int(found.group(1))
        finally:
            process.terminate()
            process.wait(10)
            process.stdout.close()


def _in(namespace: str | None) -> tuple[str, ...]:
    return ("-n", namespace) if namespace else ()


def wait_for(what: str, probe: Callable[[], T | None], timeout: float, every: float = 0.5) -> T:
    """Call `probe` until it returns something true. Raises WaitTimeout naming `what`."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise WaitTimeout(f"{what}: not within {timeout:.0f} s")
        time.sleep(every)


def condition(obj: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """One condition of an object's status, or an empty mapping."""
    found = [c for c in obj.get("status", {}).get("conditions") or () if c["type"] == kind]
    return found[0] if found else {}
