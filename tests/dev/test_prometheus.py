"""The Prometheus that end-to-end tests ask, tried on a counter of our own."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest

import prometheus
from glm_dev.prometheus import PrometheusMissingError, program
from prometheus import SCRAPE_SECONDS as SECONDS
from prometheus import PrometheusError, Target, moving, scraping

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


@pytest.fixture
def registry() -> prometheus_client.CollectorRegistry:
    return prometheus_client.CollectorRegistry()


@pytest.fixture
def address(registry: prometheus_client.CollectorRegistry) -> Iterator[str]:
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    assert isinstance(thread, threading.Thread)
    thread.join(5)


def test_a_counter_that_moves_is_seen_to_move(
    tmp_path: Path, registry: prometheus_client.CollectorRegistry, address: str
) -> None:
    answers = prometheus_client.Counter("answers", "Answers", ["tier"], registry=registry)
    answers.labels("flash").inc()
    targets = [Target("gateway", address, labels={"pod": "a"})]
    with scraping(tmp_path, targets, interval_seconds=0.1) as asked:
        asked.wait_until_scraped(["gateway"], SECONDS)
        (before,) = asked.wait_for("answers_total", SECONDS)
        answers.labels("flash").inc(2)
        (after,) = asked.wait_for("answers_total > 1", SECONDS)
    assert (before.value, after.value) == (1.0, 3.0)
    assert (after.labels["tier"], after.labels["pod"], after.labels["job"]) == (
        "flash",
        "a",
        "gateway",
    )


def test_series_that_move_during_a_block_are_seen_to(
    tmp_path: Path, registry: prometheus_client.CollectorRegistry, address: str
) -> None:
    answers = prometheus_client.Counter("answers", "Answers", ["tier"], registry=registry)
    answers.labels("flash").inc(3)
    with moving(tmp_path / "a", [Target("gateway", address)], ["answers_total", "later_total"]):
        answers.labels("flagship").inc()
        prometheus_client.Counter("later", "Later", registry=registry).inc()


def test_a_series_that_does_not_move_during_a_block_is_named(
    tmp_path: Path,
    registry: prometheus_client.CollectorRegistry,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus, "MOVE_SECONDS", 1.0)
    prometheus_client.Counter("answers", "Answers", registry=registry).inc(3)
    with (
        pytest.raises(PrometheusError, match=r"sum\(answers_total\).* != 3.0 stayed empty"),
        moving(tmp_path / "a", [Target("gateway", address)], ["answers_total"]),
    ):
        pass


def test_a_target_that_does_not_answer_fails_the_wait(tmp_path: Path, address: str) -> None:
    targets = [Target("gateway", address), Target("gateway", "127.0.0.1:1")]
    with scraping(tmp_path, targets, interval_seconds=0.1) as asked:
        asked.wait_for(f'up{{instance="{address}"}} == 1', SECONDS)
        with pytest.raises(PrometheusError, match="stayed empty"):
            asked.wait_until_scraped(["gateway"], 0.5)


def test_a_wrong_expression_is_named(tmp_path: Path) -> None:
    with (
        scraping(tmp_path, []) as asked,
        pytest.raises(PrometheusError, match="parse error"),
    ):
        asked.query("sum(")


def test_a_machine_without_prometheus_and_apt_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GLM_OPERATOR_CACHE", str(tmp_path))
    with pytest.raises(PrometheusMissingError, match="please install it"):
        program()


@pytest.mark.full
@pytest.mark.timeout(400)
def test_a_machine_without_prometheus_unpacks_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("apt-get", "dpkg-deb", "tar"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("GLM_OPERATOR_CACHE", str(tmp_path / "cache"))
    first = program().stat().st_mtime_ns
    assert program().stat().st_mtime_ns == first
    with scraping(tmp_path, []) as asked:
        assert asked.query("vector(1)")[0].value == 1.0
