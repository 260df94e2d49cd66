"""The Rust `vllm-router`, the reference of the gateway's figures: installed for the bench only.

It is no requirement of the project: it lies in the cache by its version, in an environment of its
own, so that neither its dependencies nor its imports meet ours.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

from glm_dev.images.base import locked, making
from glm_dev.paths import cache_dir

VERSION = "0.1.17"
INSTALL_SECONDS = 600


class RouterMissingError(Exception):
    """It cannot be installed here; the message says why."""


def program() -> Path:
    """The interpreter that has `vllm_router`, installed from PyPI on first use (30 MB).

    Raises:
        RouterMissingError: uv is missing, or the installation failed.
    """
    folder = cache_dir() / "bench" / f"vllm-router-{VERSION}"
    with locked(cache_dir() / "bench" / "vllm-router.lock"):
        if not folder.exists():
            with making(folder) as unfinished:
                _install(unfinished)
    return folder / "bin" / "python"


def _install(folder: Path) -> None:
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    python = str(folder / "bin" / "python")
    _run(str(uv), "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    _run(str(uv), "pip", "install", "--quiet", "--python", python, f"vllm-router=={VERSION}")


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except OSError as error:
        raise RouterMissingError(f"uv is missing: run `make venv` ({error})") from error
    if done.returncode:
        raise RouterMissingError(
            f"vllm-router {VERSION} cannot be installed: {done.stderr.strip()}"
        )
