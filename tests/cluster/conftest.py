"""One control plane for all tests of this folder, and a namespace for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any

import pytest

import control_plane as planes
from control_plane import ControlPlane

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    with planes.running() as plane:
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; its removal is begun, not waited for."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    manifest: dict[str, Any] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    control_plane.api.create("/api/v1/namespaces", manifest)
    yield name
    control_plane.api.delete(f"/api/v1/namespaces/{name}")
