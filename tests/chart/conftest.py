"""Helm itself, built once per machine from its Go module."""

from __future__ import annotations

import pytest

from helm import Helm, Manifest


@pytest.fixture(scope="session")
def helm() -> Helm:
    from glm_dev.cluster import binaries

    return Helm(binaries.helm())


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> list[Manifest]:
    """The chart with default values."""
    return helm.template()
