"""A real Prometheus (the distribution's package) that scrapes what a test names."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from glm_dev.prometheus import program

START_SECONDS = 20.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 5.0
SCRAPE_SECONDS = 40.0
"""Prometheus takes its targets up every five seconds, and more where the machine is busy."""
MOVE_SECONDS = 20.0
POLL_SECONDS = 0.1


class PrometheusError(Exception):
    """Prometheus did not start, or refused a query."""


class NoAnswerError(PrometheusError):
    """Prometheus did not answer this time; a machine under load makes it late."""


@dataclass(frozen=True, slots=True)
class Target:
    """One address to scrape, for example `Target("gateway", "198.19.1.7:9090")`."""

    job: str
    address: str
    path: str = "/metrics"
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an answer and its value."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    url: str
    targets: tuple[Target, ...] = ()

    def query(self, expression: str) -> list[Sample]:
        """The instant vector of a PromQL expression, empty when nothing matches.

        Raises:
            PrometheusError: the expression is wrong, or its answer is no vector.
            NoAnswerError: there was none within ANSWER_SECONDS.
        """
        found = self._get("/api/v1/query", {"query": expression})
        if found["resultType"] != "vector":
            raise PrometheusError(f"{expression} gives a {found['resultType']}, not a vector")
        return [Sample(item["metric"], float(item["value"][1])) for item in found["result"]]

    def total(self, expression: str) -> float:
        """The sum of all series of an expression; 0.0 when there are none."""
        return sum(sample.value for sample in self.query(expression))

    def wait_for(self, expression: str, seconds: float) -> list[Sample]:
        """The answer of an expression once it is not empty, asked again until `seconds` are over.

        Use a comparison, for example `wait_for('up{job="gateway"} == 1', 10)`.

        Raises:
            PrometheusError: it stayed empty.
        """
        deadline = time.monotonic() + seconds
        while not (samples := self._query_or_nothing(expression)):
            if time.monotonic() > deadline:
                raise PrometheusError(f"{expression} stayed empty for {seconds:g} s")
            time.sleep(POLL_SECONDS)
        return samples

    def wait_until_scraped(self, jobs: Sequence[str], seconds: float) -> None:
        """Return once every target of each job was scraped without an error.

        Asked by target: one that was not tried yet has no series that could be 0.

        Raises:
            PrometheusError: one of them was not.
        """
        for target in self.targets:
            if target.job in jobs:
                series = f'up{{job="{target.job}",instance="{target.address}"}}'
                self.wait_for(f"{series} == 1", seconds)

    def _query_or_nothing(self, expression: str) -> list[Sample]:
        try:
            return self.query(expression)
        except NoAnswerError:
            return []

    def _get(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        address = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=ANSWER_SECONDS) as answer:
                return dict(json.load(answer)["data"])
        except urllib.error.HTTPError as error:
            with error:
                raise PrometheusError(json.load(error)["error"]) from error
        except OSError as error:
            raise NoAnswerError(f"no answer from {self.url}: {error}") from error


@contextmanager
def scraping(
    folder: Path, targets: Sequence[Target], interval_seconds: float = 0.5
) -> Iterator[Prometheus]:
    """Run Prometheus over `targets` until the block ends; its data and log stay in `folder`.

    Raises:
        PrometheusError: it did not become ready.
    """
    executable = program()
    configuration = folder / "prometheus.yaml"
    configuration.write_text(yaml.safe_dump(_configuration(targets, interval_seconds)))
    listen = f"127.0.0.1:{_free_port()}"
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                str(executable),
                f"--config.file={configuration}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={listen}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(f"http://{listen}", process, folder / "prometheus.log")
            yield Prometheus(f"http://{listen}", tuple(targets))
        finally:
            _stop(process)


@contextmanager
def moving(folder: Path, targets: Sequence[Target], series: Sequence[str]) -> Iterator[None]:
    """Run the block; return once the total of each series differs from the one before the block.

    Raises:
        PrometheusError: a target was not scraped before the block, or a total is still the same.
    """
    folder.mkdir()
    with scraping(folder, targets) as prometheus:
        prometheus.wait_until_scraped([target.job for target in targets], SCRAPE_SECONDS)
        before = {one: prometheus.total(one) for one in series}
        yield
        for one, value in before.items():
            # A series that was not there yet counts as 0.
            prometheus.wait_for(f"(sum({one}) or vector(0)) != {value!r}", MOVE_SECONDS)


def _configuration(targets: Sequence[Target], interval_seconds: float) -> dict[str, Any]:
    """One scrape job per job name and path; all of its targets below it."""
    jobs: dict[str, dict[str, Any]] = {}
    for target in targets:
        job = jobs.setdefault(
            target.job,
            {"job_name": target.job, "metrics_path": target.path, "static_configs": []},
        )
        static = {"targets": [target.address], "labels": dict(target.labels)}
        job["static_configs"].append(static)
    interval = f"{round(interval_seconds * 1000)}ms"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": list(jobs.values()),
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=2).close()
        except OSError:
            time.sleep(POLL_SECONDS)
        else:
            return
    raise PrometheusError(f"Prometheus did not start: {log.read_text()[-500:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)
