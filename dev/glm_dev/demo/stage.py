"""Bringing the demo up: a cluster, the chart, the object; and the judgement of a held request."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from glm_dev.demo.scenes import Answer
from glm_dev.kubectl import Kubectl, WaitTimeout, wait_for
from glm_dev.site import REPOSITORY, Site, foreign_site, local_site

NODES = "1x4xH100-80GB,2x1xL40S-48GB"
READY_SECONDS = 900.0
HELD_SECONDS = 1.0
"""A held request must have waited at least this long, or flash was not asleep."""
LOG_SECONDS = 20.0
console = Console()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    console.print(f"[bold]▶ {title}[/bold]")
    started = time.monotonic()
    yield
    console.print(f"  [green]done[/green] in {time.monotonic() - started:.0f} s")


@contextmanager
def opened(kubeconfig: Path | None, keep: bool) -> Iterator[Site]:
    """The cluster of the demo: the user's own, or a local one that is taken down at the end."""
    if kubeconfig:
        yield foreign_site(kubeconfig)
        return
    console.print("[bold]▶ Kubernetes, engines and images[/bold] (built once, then kept)")
    with local_site("demo", NODES, real_engine=True, keep=keep) as site:
        console.print(site.kubectl.run("get", "nodes", "-L", "nvidia.com/gpu.product"))
        yield site


def install_operator(site: Site) -> None:
    """Install the chart with the real Helm."""
    with step("helm install glm-operator"):
        site.install_chart()


def apply_object(site: Site, namespace: str) -> None:
    """kubectl apply of the example that fits the cluster."""
    example = "local.yaml" if site.real_engine else "simulated.yaml"
    with step(f"kubectl apply -f examples/{example}"):
        site.create_namespace(namespace)
        console.print(site.kubectl.apply((REPOSITORY / "examples" / example).read_text()).strip())


def judge_held(site: Site, namespace: str, answer: Answer) -> Answer:
    """A held request waited, and reached an engine exactly once."""
    wrong = list(answer.wrong)
    if answer.seconds < HELD_SECONDS:
        wrong.append(f"answered after {answer.seconds:.2f} s, so it was never held")
    served = _completions_once_logged(site.kubectl, namespace, answer.replica)
    if served != 1:
        wrong.append(f"the engine served {served} requests from the gateway instead of 1")
    return replace(answer, wrong=tuple(wrong))


def _completions_once_logged(kubectl: Kubectl, namespace: str, replica: str) -> int:
    """An answer is here before its line is in the log that kubectl reads; 0 if none comes."""
    try:
        return wait_for(
            f"{replica} to log a request",
            lambda: completions_from_gateways(kubectl, namespace, replica),
            LOG_SECONDS,
        )
    except WaitTimeout:
        return 0


def completions_from_gateways(kubectl: Kubectl, namespace: str, replica: str) -> int:
    """Chat completions that an engine's own access log shows from addresses of gateways."""
    pods = kubectl.list("pod", namespace, "app.kubernetes.io/component=gateway")
    addresses = {pod["status"].get("podIP", "") for pod in pods}
    log = kubectl.run("logs", replica, "-n", namespace, "-c", "engine")
    clients = re.findall(r"(\d+\.\d+\.\d+\.\d+):\d+ - \"POST /v1/chat/completions", log)
    return sum(1 for client in clients if client in addresses)
