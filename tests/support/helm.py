"""The chart rendered by the real Helm, as plain objects."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "glm-operator"
HELM_SECONDS = 60
Manifest = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Helm:
    """One Helm executable."""

    path: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str) -> str:
        """Standard output of `helm ARGUMENTS`.

        Raises:
            HelmError: Helm ended with a code other than 0.
        """
        done = subprocess.run(
            [str(self.path), *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=HELM_SECONDS,
            check=False,
        )
        if done.returncode:
            raise HelmError(done.stderr + done.stdout)
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Never the caller's own cluster: without a kubeconfig Helm finds none."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig or os.devnull)}

    def template(self, *sets: str, release: str = "glm-operator") -> list[Manifest]:
        """The rendered objects of the chart, with one `--set-json` for each of `sets`."""
        arguments = [argument for pair in sets for argument in ("--set-json", pair)]
        text = self.run("template", release, str(CHART), "--namespace", "glm-system", *arguments)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def pick(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The one object of `kind`, whose name is or ends in `name`."""
    found = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and manifest["metadata"]["name"].endswith(name)
    ]
    assert len(found) == 1, f"{len(found)} objects of kind {kind} named *{name}, expected one"
    return found[0]


def default_values() -> Manifest:
    """values.yaml of the chart."""
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))
