"""What a person sees while the demo runs: conditions as they change, answers, metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from glm_dev.demo.scenes import Answer
from glm_dev.kubectl import Kubectl, WaitTimeout, condition

CONDITIONS = (
    "Planned",
    "FlagshipAvailable",
    "FlashAvailable",
    "ToolCallVerified",
    "GatewayAvailable",
    "Ready",
)
PIPED_COLUMNS = 160
"""Where output goes to a file, tables take what they need and no line is broken at 80."""
console = Console()
if not console.is_terminal:
    console.width = max(console.width, PIPED_COLUMNS)
COLOURS = {"True": "green", "False": "red", "Unknown": "yellow"}


def is_asleep(kubectl: Kubectl, namespace: str, name: str, tier: str) -> bool:
    """Whether a tier has no pod left, so that a request has to wake it."""
    selector = f"glm-operator.io/deployment={name},glm-operator.io/tier={tier}"
    return not kubectl.list("pod", namespace, selector)


def conditions_table(obj: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> Table:
    """Conditions of the object and the state of its pods."""
    table = Table(title=f"GLMDeployment {obj['metadata']['name']}", title_justify="left")
    for column in ("", "status", "reason", "message"):
        table.add_column(column, overflow="fold")
    for kind in CONDITIONS:
        found = condition(obj, kind)
        status = found.get("status", "Unknown")
        colour = COLOURS[status]
        table.add_row(
            kind, f"[{colour}]{status}", found.get("reason", ""), found.get("message", "")
        )
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status", {})
        ready = next(
            (c["status"] for c in status.get("conditions", []) if c["type"] == "Ready"), ""
        )
        node = pod["spec"].get("nodeName", "no node")
        phase = "Terminating" if metadata.get("deletionTimestamp") else status.get("phase", "")
        table.add_row(f"  {metadata['name']}", phase, f"ready {ready or 'False'}", f"on {node}")
    return table


def watch_until(
    kubectl: Kubectl, namespace: str, name: str, kind: str, reason: str, timeout: float
) -> dict[str, Any]:
    """Show the conditions live until `kind` is True (and has `reason`, where one is given)."""
    deadline = time.monotonic() + timeout
    printed: dict[str, tuple[str, str]] = {}
    with Live(console=console, refresh_per_second=2, transient=not console.is_terminal) as live:
        while True:
            obj = kubectl.get("glmdeployment", name, namespace)
            pods = kubectl.list("pod", namespace, f"glm-operator.io/deployment={name}")
            if console.is_terminal:
                live.update(conditions_table(obj, pods))
            else:
                _print_changes(obj, printed)
            found = condition(obj, kind)
            if found.get("status") == "True" and (not reason or found.get("reason") == reason):
                return obj
            if time.monotonic() > deadline:
                message = found.get("message", "no condition yet")
                raise WaitTimeout(f"{kind} {reason} not within {timeout:.0f} s: {message}")
            time.sleep(1)


def _print_changes(obj: Mapping[str, Any], printed: dict[str, tuple[str, str]]) -> None:
    """Where no terminal shows a live table (CI, a pipe), print a line for each change."""
    for kind in CONDITIONS:
        found = condition(obj, kind)
        now = (found.get("status", "Unknown"), found.get("reason", ""))
        if found and printed.get(kind) != now:
            printed[kind] = now
            console.print(
                f"  {kind}: {now[0]} {now[1]} {found.get('message', '')}", highlight=False
            )


def answers_table(answers: Sequence[Answer]) -> Table:
    """One row for each request."""
    table = Table(title="Requests", title_justify="left")
    columns = ("request", "status", "tier", "replica", "decision", "seconds", "outcome", "verdict")
    for column in columns:
        table.add_column(column, overflow="fold")
    for a in answers:
        verdict = "[green]right" if a.right else "[red]" + "; ".join(a.wrong)
        table.add_row(
            a.scene,
            str(a.status),
            a.tier,
            a.replica,
            a.decision,
            f"{a.seconds:.2f}",
            a.outcome,
            verdict,
        )
    return table


def metrics_table(before: Mapping[str, float], after: Mapping[str, float]) -> Table:
    """The metrics that moved between two scrapes."""
    table = Table(title="Metrics that moved", title_justify="left")
    for column in ("series", "before", "after"):
        table.add_column(column, overflow="fold")
    for series in sorted(after):
        old = before.get(series, 0.0)
        if after[series] != old and "_bucket" not in series and "_created" not in series:
            table.add_row(series, f"{old:g}", f"{after[series]:g}")
    return table


def parse_metrics(text: str, prefix: str) -> dict[str, float]:
    """Prometheus text to series -> value, for series that start with `prefix`."""
    series: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith(prefix):
            name, _, value = line.rpartition(" ")
            series[name] = float(value)
    return series
