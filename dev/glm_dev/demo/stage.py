"""The demo's beginning and end: a cluster, the chart, the object; how a held request is judged."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from glm_dev.demo import guest
from glm_dev.demo.guest import Thing, by_hand, named
from glm_dev.demo.scenes import Answer
from glm_dev.demo.view import console
from glm_dev.kubectl import Kubectl, WaitTimeout, wait_for
from glm_dev.site import REPOSITORY, Site, foreign_site, local_site

NODES = "1x4xH100-80GB,2x1xL40S-48GB"
READY_SECONDS = 900.0
HELD_SECONDS = 1.0
"""A held request must have waited at least this long, or flash was not asleep."""
LOG_SECONDS = 20.0


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what begins and how long it took."""
    console.print(f"[bold]▶ {title}[/bold]")
    started = time.monotonic()
    yield
    console.print(f"  [green]done[/green] in {time.monotonic() - started:.0f} s")


@dataclass(frozen=True, slots=True)
class Stay:
    """The demo on one cluster, and what becomes of that at the demo's end."""

    site: Site
    keep: bool
    made: tuple[Thing, ...] = ()
    """What the demo makes on a cluster that is not its own."""

    @property
    def ends(self) -> bool:
        """Whether the end of the demo takes anything away."""
        return not self.keep and (self.site.local is not None or bool(self.made))

    def fate(self) -> str:
        """What the end of the demo will do, or will leave to be done."""
        if self.site.local:
            taken = "At its end the demo takes the cluster down; `make clean` does too."
            kept = "The cluster stays up after the demo: `make clean` takes it down."
            return kept if self.keep else taken
        if not self.made:
            return "All that the demo needs was on the cluster before, and stays."
        if self.keep:
            return f"What the demo made stays on the cluster. To remove it:\n{by_hand(self.made)}"
        return f"At its end the demo removes what it made: {named(self.made)}."


@contextmanager
def opened(kubeconfig: Path | None, keep: bool) -> Iterator[Stay]:
    """The user's own cluster, or a local one; at the end what the demo made goes, unless `keep`."""
    with _foreign(kubeconfig, keep) if kubeconfig else _local(keep) as stay:
        try:
            yield stay
        finally:
            if keep:
                _say(stay.fate())


@contextmanager
def _local(keep: bool) -> Iterator[Stay]:
    console.print("[bold]▶ Kubernetes, engines and images[/bold] (built once, then kept)")
    with ExitStack() as stack:
        site = stack.enter_context(local_site("demo", NODES, real_engine=True, keep=keep))
        console.print(site.kubectl.run("get", "nodes", "-L", "nvidia.com/gpu.product"))
        try:
            yield Stay(site, keep)
        finally:
            if not keep:
                with step("Taking the cluster down"):
                    stack.close()


@contextmanager
def _foreign(kubeconfig: Path, keep: bool) -> Iterator[Stay]:
    site = foreign_site(kubeconfig)
    stay = Stay(site, keep, guest.absent(site))
    try:
        yield stay
    finally:
        if stay.made and not keep:
            with step(f"Removing {named(stay.made)}"):
                left = guest.remove(site, stay.made)
            if left:
                _say(f"Other GLMDeployments need what is left. To remove it:\n{by_hand(left)}")


def _say(text: str) -> None:
    """Print text with commands, which must not be broken into lines."""
    console.print(text, soft_wrap=True, highlight=False)


def install_operator(site: Site) -> None:
    """Install the chart with the real Helm."""
    with step("helm install glm-operator"):
        site.install_chart(guest.RELEASE)


def apply_object(site: Site) -> None:
    """kubectl apply of the example that fits the cluster."""
    example = "local.yaml" if site.real_engine else "simulated.yaml"
    with step(f"kubectl apply -f examples/{example}"):
        # A namespace of somebody else's keeps its own rules.
        if not guest.is_there(site, guest.NAMESPACE_OF_OBJECT):
            site.create_namespace(guest.NAMESPACE)
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
