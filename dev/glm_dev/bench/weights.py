"""How long a tier takes from `kubectl apply` to the first token, by what the node holds already."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from glm_dev.demo.scenes import Client
from glm_dev.engine.paths import engine
from glm_dev.hub.server import Hub
from glm_dev.kubectl import Kubectl, condition, wait_for
from glm_dev.site import REPOSITORY, Site, local_site

NAMESPACE, NAME = "bench", "vision"
QUESTION = [{"role": "user", "content": "What is a taint in Kubernetes?"}]
START_SECONDS = 600
CASES = ("nothing on the node", "weights", "weights and compile cache")
Rows = dict[str, list[dict[str, float]]]


def measure(repeats: int) -> str:
    """Run the rounds on a cluster of its own, with the real vLLM; returns the table."""
    rows: Rows = {case: [] for case in CASES}
    with _stage() as (site, disk):
        for _ in range(repeats):
            for case, prepare in zip(CASES, _preparations(disk), strict=True):
                prepare()
                rows[case].append(_round(site))
    return _table(rows)


@contextmanager
def _stage() -> Iterator[tuple[Site, Path]]:
    """One node, the chart, and a hub with the tiny flash checkpoint; and the node's copies."""
    hub = Hub()
    with local_site(f"bench-{os.getpid()}", "1x1xL40S-48GB", real_engine=True) as site:
        if site.local is None:
            raise RuntimeError("a local cluster is needed")
        hub.publish("glm/flash", engine().models / "flash")
        with hub.running(str(site.local.plan.addresses.host)) as endpoint:
            site.install_chart(**{"weights.hubEndpoint": endpoint})
            site.create_namespace(NAMESPACE)
            yield site, site.local.plan.node_folder(1) / "lib" / "glm-operator" / NAMESPACE


def _preparations(disk: Path) -> tuple[Callable[[], None], ...]:
    def forget(*kinds: str) -> Callable[[], None]:
        def work() -> None:
            for kind in kinds:
                shutil.rmtree(disk / kind, ignore_errors=True)

        return work

    return forget("weights", "compile"), forget("compile"), forget()


def _round(site: Site) -> dict[str, float]:
    """Seconds from apply to each step; the object and its pods are gone afterwards."""
    started = time.monotonic()
    seconds: dict[str, float] = {}
    site.kubectl.apply(_object())
    wait_for("the copy", lambda: _is_held(site.kubectl), START_SECONDS, every=0.1)
    seconds["copy on the node"] = time.monotonic() - started
    wait_for("the object", lambda: _is_ready(site.kubectl), START_SECONDS, every=0.1)
    seconds["Ready"] = time.monotonic() - started
    with site.kubectl.port_forward("svc/vision-gateway", 80, NAMESPACE) as port:
        client = Client(f"http://127.0.0.1:{port}")
        client.stream("first token", QUESTION, tier="flash")
        client.close()
    seconds["first answer"] = time.monotonic() - started
    site.kubectl.run("delete", "glm", NAME, "-n", NAMESPACE, timeout=60)
    wait_for("the pods to go", lambda: not site.kubectl.list("pod", NAMESPACE), 400)
    return seconds


def _object() -> dict[str, Any]:
    text = (REPOSITORY / "examples" / "local.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    found["metadata"]["namespace"] = NAMESPACE
    flash = found["spec"]["tiers"]["flash"]
    flash["model"] |= {"uri": "hf://glm/flash", "quantization": "Auto"}
    flash["scaling"] = {"mode": "Off"}
    found["spec"] = {"tiers": {"flash": flash}, "gateway": {"replicas": 1}}
    return found


def _is_held(kubectl: Kubectl) -> bool:
    stored = kubectl.get("glm", NAME, NAMESPACE)
    flash = stored.get("status", {}).get("tiers", {}).get("flash", {})
    copies = flash.get("weights", {}).get("copies", [])
    return [one["state"] for one in copies] == ["Ready"]


def _is_ready(kubectl: Kubectl) -> bool:
    return condition(kubectl.get("glm", NAME, NAMESPACE), "Ready").get("status") == "True"


def _table(rows: Rows) -> str:
    steps = list(next(iter(rows.values()))[0])
    lines = [f"| the node holds | {' | '.join(steps)} |", f"|---|{'---:|' * len(steps)}"]
    for case, rounds in rows.items():
        told = (statistics.median(one[step] for one in rounds) for step in steps)
        lines.append(f"| {case} | {' | '.join(f'{value:.1f}' for value in told)} |")
    return "\n".join(lines)
