"""How hard properties are tried: the same examples in every run, more of them with HARDER=1.

A property that fails on a rare example must fail for everybody, so nothing is random here.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("usual", deadline=None, derandomize=True, max_examples=40, database=None)
settings.register_profile("harder", deadline=None, max_examples=2000, database=None)
settings.load_profile("harder" if os.environ.get("HARDER") else "usual")

SECONDS = 120
"""A machine of the planner runs thousands of plans; three busy suites on two cores took 30 s."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The limit ends what hangs; how fast the planner is tells the benchmark."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(SECONDS))
