"""What holds for every test: where it can run, and how many were left out of this run."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings

# How long one example takes says more about the machine than about the code.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

GROUPS = ("helm", "cluster", "engine", "full")
LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A cluster test that cannot run here fails and says what to do instead."""
    if item.get_closest_marker("cluster") is None or os.environ.get("GLM_TEST_KUBECONFIG"):
        return
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.fail(
            "This test starts the local cluster, which needs Linux and root: "
            "use `make test FAST=1` for the tests that need neither.",
            pytrace=False,
        )


FIRST_SIDE = ("tests/e2e/", "tests/cluster/test_weights")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `--dist loadscope` two clusters side by side, each half of the time.

    Such tests wait for most of their time. What shares a cluster stays on one worker.
    """
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class TwoSides(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "first" if nodeid.startswith(FIRST_SIDE) else "second"

    return TwoSides(config, log)


def group_of(item: pytest.Item) -> str:
    """The marker that explains why a test is not in every run."""
    return next((name for name in reversed(GROUPS) if item.get_closest_marker(name)), "fast")


def pytest_deselected(items: list[pytest.Item]) -> None:
    if items:
        items[0].config.stash[LEFT_OUT].update(group_of(item) for item in items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker leaves out the same tests, so the last report is the whole truth."""
    node.config.stash[LEFT_OUT] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    left_out = config.stash[LEFT_OUT]
    if left_out:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()))
        terminalreporter.write_line(f"{left_out.total()} tests were left out of this run: {parts}")
