"""Programs that come from the distribution: installed where apt-get is, else asked for."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

INSTALL_SECONDS = 600.0
LOCK_SECONDS = 300.0
"""A fresh Debian upgrades itself for minutes, and holds apt's locks meanwhile."""
RETRY_SECONDS = 5.0
LOCKED = "Could not get lock"
"""What apt-get says of the locks that its own waiting does not cover: lists and downloads."""
LAST_WORDS = 500
"""Characters of a failed apt-get that its error shows."""


class DistributionError(RuntimeError):
    """A program is missing and cannot be installed here; the message asks for it."""


def require(packages: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Install what PATH lacks of `packages` (program -> Debian's package), or ask for it.

    Raises:
        DistributionError: a program is still missing.
    """
    lacking = missing(packages)
    if lacking and shutil.which("apt-get") and os.geteuid() == 0:
        say(f"Installing {', '.join(lacking)} with apt-get")
        apt_get("update", "-qq")
        apt_get("install", "-y", "-qq", "--no-install-recommends", *lacking)
        lacking = missing(packages)
    if lacking:
        raise DistributionError(
            f"Please install {', '.join(lacking)} (Debian's names) and run this again."
        )


def missing(packages: Mapping[str, str]) -> list[str]:
    """The packages whose programs are not on PATH, each once."""
    return sorted({package for name, package in packages.items() if not shutil.which(name)})


def apt_get(*arguments: str, folder: Path | None = None) -> None:
    """Run apt-get, in `folder` where one is given; a lock of somebody else's is waited for.

    Raises:
        DistributionError: it failed, with its own last words.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    while (done := _once(arguments, folder)).returncode:
        if LOCKED not in done.stderr or time.monotonic() > deadline:
            said = (done.stderr.strip() or done.stdout.strip())[-LAST_WORDS:]
            raise DistributionError(f"apt-get {' '.join(arguments)} failed: {said}")
        time.sleep(RETRY_SECONDS * random.uniform(0.5, 1.5))


def _once(arguments: tuple[str, ...], folder: Path | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["apt-get", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS:.0f}", *arguments],
            cwd=folder,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DistributionError(
            f"apt-get {arguments[0]} took longer than {INSTALL_SECONDS:.0f} s."
        ) from error
