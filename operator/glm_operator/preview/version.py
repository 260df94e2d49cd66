"""Which glm-operator speaks."""

from __future__ import annotations

from importlib import metadata


def version() -> str:
    """The version of the installed package; `unknown` where it runs without being installed."""
    try:
        return metadata.version("glm-operator")
    except metadata.PackageNotFoundError:
        return "unknown"
