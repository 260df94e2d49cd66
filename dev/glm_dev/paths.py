"""Where things live that are built once per machine and kept outside the checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "GLM_OPERATOR_CACHE"
"""Environment variable that moves the whole cache to another folder."""


def cache_dir() -> Path:
    """The project's cache, created if missing.

    `$GLM_OPERATOR_CACHE`; else `/var/cache/glm-operator` for root on Linux, because pods run as
    other users and must be able to read the engine there; else `~/.cache/glm-operator`.
    """
    folder = _configured() or _default()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _configured() -> Path | None:
    value = os.environ.get(CACHE_VARIABLE, "")
    return Path(value).expanduser().resolve() if value else None


def _default() -> Path:
    if sys.platform == "linux" and os.geteuid() == 0:
        return Path("/var/cache/glm-operator")
    return Path.home() / ".cache" / "glm-operator"
