"""CPU time and memory of the gateway beside the Rust `vllm-router` and nginx.

The proxy is pinned to one core, load and mock engine share another, and the proxy's CPU time is
read from the kernel: with two cores, wall-clock rates would measure the load generator as well.
Every repeat measures all proxies one after another, so that a ratio compares neighbours in time.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence

import uvloop

from glm_dev.bench import load, mock
from glm_dev.bench.load import Case
from glm_dev.bench.proxies import BenchError, Proxy, Running, proxies, started

LOAD_CORE = 1
MICRO = 1e6
AT_REST = "at rest"

Samples = dict[tuple[str, str], list[float]]
"""(case, proxy) -> one value for each repeat."""


def measure(nginx: str, repeats: int) -> str:
    """Measure the proxies, interleaved; returns two Markdown tables.

    Raises:
        BenchError: this is not Linux with at least two cores, a proxy to compare with is missing
            or does not start, or a request fails.
    """
    if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
        raise BenchError("this needs Linux and two cores: proxy and load are pinned apart")
    compared, cases = proxies(nginx), load.cases()
    micros: Samples = defaultdict(list)
    megabytes: Samples = defaultdict(list)
    os.sched_setaffinity(0, {LOAD_CORE})
    with mock.engine() as upstream:
        for _ in range(repeats):
            for proxy in compared:
                _one_round(proxy, upstream, cases, micros, megabytes)
    names = [proxy.name for proxy in compared]
    return cpu_table(cases, names, micros) + "\n" + memory_table(names, megabytes)


def _one_round(
    proxy: Proxy, upstream: int, cases: Sequence[Case], micros: Samples, megabytes: Samples
) -> None:
    with started(proxy, upstream) as running:
        uvloop.run(load.run(load.warm_up(), running.port))
        megabytes[AT_REST, proxy.name].append(running.peak_megabytes())
        for case in cases:
            micros[case.name, proxy.name].append(_micros(case, running))
            if case.memory:
                megabytes[case.memory, proxy.name].append(running.peak_megabytes())


def _micros(case: Case, running: Running) -> float:
    running.forget_peak()
    before = running.cpu_seconds()
    uvloop.run(load.run(case, running.port))
    return (running.cpu_seconds() - before) / case.units * MICRO


def cpu_table(cases: Sequence[Case], names: Sequence[str], micros: Samples) -> str:
    """CPU time of each proxy, and the first's in ratio to the second's."""
    titles = [*names, f"{names[0]} / {names[1]}", "to reach"]
    lines = [f"| CPU microseconds of the proxy | {' | '.join(titles)} |"]
    lines.append("|---|" + "---:|" * len(titles))
    for case in cases:
        values = [micros[case.name, name] for name in names]
        ratios = [ours / theirs for ours, theirs in zip(values[0], values[1], strict=True)]
        cells = [*(_spread(value, 1) for value in values), _spread(ratios, 2)]
        bar = f"{case.bar:g}" if case.bar else ""
        lines.append(f"| {case.name}, per {case.unit} | {' | '.join(cells)} | {bar} |")
    return "\n".join(lines) + "\n"


def memory_table(names: Sequence[str], megabytes: Samples) -> str:
    """Largest resident memory of each proxy, by what it did meanwhile."""
    lines = [f"| peak resident memory, MB | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for case in dict.fromkeys(case for case, _ in megabytes):
        cells = [_spread(megabytes[case, name], 0) for name in names]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"
