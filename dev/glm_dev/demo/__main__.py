"""`make demo`: cluster up, chart installed, object applied, real requests, every answer checked."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import urllib.request
from pathlib import Path

from glm_dev.demo import stage, view
from glm_dev.demo.guest import NAME, NAMESPACE
from glm_dev.demo.scenes import (
    CLICK_TOOL,
    Answer,
    Client,
    loop_with_image_result,
    screenshot,
    see_and_click,
)
from glm_dev.demo.stage import Stay
from glm_dev.demo.view import console
from glm_dev.images.errors import BuildError
from glm_dev.kubectl import Kubectl, KubectlError, WaitTimeout, wait_for
from glm_dev.site import ClusterError, Site, SiteError

GATEWAY = f"svc/{NAME}-gateway"
ERRORS = (SiteError, ClusterError, BuildError, KubectlError, WaitTimeout)
SLEEP_SECONDS = 300.0


def main(argv: list[str] | None = None) -> int:
    """Run the demo; 0 only when every answer was right and the end went well."""
    options = _options(argv)
    code = 1
    try:
        with stage.opened(options.kubeconfig, options.keep) as stay:
            code = _perform(stay, options.once)
    except ERRORS as error:
        console.print(f"[red]demo: {error}")
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    return code


def _perform(stay: Stay, once: bool) -> int:
    """Play, and stay until Ctrl-C unless `once`; an error is said before the end takes its time."""
    try:
        answers = _play(stay.site)
        outlook(stay, once)
    except ERRORS as error:
        console.print(f"[red]demo: {error}")
        return 1
    while not once:
        time.sleep(3600)
    return 0 if all(answer.right for answer in answers) else 1


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself after the requests")
    parser.add_argument("--keep", action="store_true", help="at the end leave all as it is")
    parser.add_argument(
        "--kubeconfig", type=Path, help="use this cluster instead of starting a local one"
    )
    return parser.parse_args(argv)


def _play(site: Site) -> list[Answer]:
    stage.install_operator(site)
    stage.apply_object(site)
    with stage.step("Both tiers up and verified by tool calls"):
        view.watch_until(site.kubectl, NAMESPACE, NAME, "Ready", "", stage.READY_SECONDS)
    before = _metrics(site.kubectl)
    with site.kubectl.port_forward(GATEWAY, 80, NAMESPACE) as port:
        answers = _requests(site, Client(f"http://127.0.0.1:{port}"))
    after = _metrics(site.kubectl)
    console.print(view.answers_table(answers))
    console.print(view.metrics_table(before, after))
    return answers


def _requests(site: Site, client: Client) -> list[Answer]:
    click = {
        "tools": [CLICK_TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }
    question = [{"role": "user", "content": "What is a taint in Kubernetes?"}]
    with contextlib.closing(client):
        with stage.step("Requests with the openai package"):
            console.print(f"  the gateway offers {', '.join(client.models())}", highlight=False)
            text, _ = client.ask("text question", question, tier="flash", max_tokens=32)
            task = [see_and_click("Save the document.", screenshot("save"))]
            first, call = client.ask("screenshot with a tool", task, tier="flagship", **click)
            answers = [text, first]
            if call:
                messages = loop_with_image_result(call)
                result, _ = client.ask("tool result with image", messages, tier="flagship", **click)
                answers.append(result)
            answers.append(client.stream("streamed answer", question, tier="flash"))
        with stage.step("Flash idle until it sleeps"):
            view.watch_until(
                site.kubectl, NAMESPACE, NAME, "FlashAvailable", "ScaledToZero", SLEEP_SECONDS
            )
            wait_for("flash to have no pod", lambda: _asleep(site), SLEEP_SECONDS)
        with stage.step("A question while flash sleeps: held, flash wakes, answered"):
            asked = client.ask("question while flash sleeps", question, tier="flash", max_tokens=32)
            answers.append(stage.judge_held(site, NAMESPACE, asked[0]))
    return answers


def _asleep(site: Site) -> bool:
    return view.is_asleep(site.kubectl, NAMESPACE, NAME, "flash")


def _metrics(kubectl: Kubectl) -> dict[str, float]:
    series: dict[str, float] = {}
    selector = f"glm-operator.io/deployment={NAME},app.kubernetes.io/component=gateway"
    for pod in kubectl.list("pod", NAMESPACE, selector):
        name = pod["metadata"]["name"]
        with kubectl.port_forward(f"pod/{name}", 9090, NAMESPACE) as port:
            url = f"http://127.0.0.1:{port}/metrics"
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read().decode()
        for key, value in view.parse_metrics(text, "glm_gateway_").items():
            series[key] = series.get(key, 0.0) + value
    return series


def outlook(stay: Stay, once: bool) -> None:
    """What can be done with the cluster now, and what becomes of it."""
    if once and stay.ends:
        cluster = "" if stay.site.local else f" KUBECONFIG={stay.site.kubectl.kubeconfig}"
        again = f"`make demo{cluster}` or `make demo ONCE=1 KEEP=1{cluster}`"
        console.print(f"\nTo look around afterwards: {again}.", soft_wrap=True, highlight=False)
        return
    _next_commands(stay.site)
    if not once:
        console.print(f"\n{stay.fate()}\nCtrl-C ends the demo.", soft_wrap=True, highlight=False)


def _next_commands(site: Site) -> None:
    console.print("\n[bold]Try next[/bold]")
    console.print(f"  export KUBECONFIG={site.kubectl.kubeconfig}", soft_wrap=True)
    console.print(f"  export PATH={site.kubectl.program.parent}:$PATH", soft_wrap=True)
    for command in (
        f"kubectl get glm -n {NAMESPACE}",
        f"kubectl describe glm {NAME} -n {NAMESPACE}",
        f"kubectl get pods -n {NAMESPACE} -o wide",
        f"kubectl port-forward -n {NAMESPACE} {GATEWAY} 8080:80    # then http://127.0.0.1:8080/v1",
    ):
        console.print(f"  {command}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
