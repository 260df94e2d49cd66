"""Wheels of a hashed lock, fetched on this machine so that image builds need no network."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from glm_dev.images import base, commands
from glm_dev.images.base import locked, making
from glm_dev.images.errors import BuildError
from glm_dev.paths import cache_dir

DOWNLOAD_SECONDS = 600
GLIBC_MINORS = (36, 34, 31, 28, 27, 26, 24, 17)
"""Of the manylinux tags that the base's glibc 2.36 can run; pip takes only those it is told."""
MACHINES = ("x86_64", "aarch64")


def wheelhouse(lock: Path) -> Path:
    """A folder with one wheel for each line of the lock, for the base image's Python.

    Raises:
        BuildError: the index cannot be reached, or has no such wheel.
    """
    digest = hashlib.sha256(lock.read_bytes() + base.key().encode()).hexdigest()[:16]
    folder = cache_dir() / "images" / "wheels" / digest
    with locked(cache_dir() / "images" / "wheels.lock"):
        if not folder.exists():
            _download(lock, folder)
    return folder


def _download(lock: Path, folder: Path) -> None:
    print(f"Fetching the wheels of {lock.name} ...", flush=True)
    with making(folder) as unfinished:
        command = [
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--python-version", base.PYTHON, "--implementation", "cp"),
            *(option for tag in _platforms() for option in ("--platform", tag)),
            *("--dest", str(unfinished), "-r", str(lock)),
        ]
        commands.run(command, log=folder.with_suffix(".log"), seconds=DOWNLOAD_SECONDS)


def _platforms() -> list[str]:
    machine = os.uname().machine
    if machine not in MACHINES:
        raise BuildError(f"no images for {machine}: there are {', '.join(MACHINES)}")
    modern = [f"manylinux_2_{minor}_{machine}" for minor in GLIBC_MINORS]
    return [*modern, f"manylinux2014_{machine}", f"linux_{machine}", "any"]
