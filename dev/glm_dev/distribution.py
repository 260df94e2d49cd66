"""Programs that come from the distribution: installed where apt-get is, else asked for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping

INSTALL_SECONDS = 600.0
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
        _apt_get("update", "-qq")
        _apt_get("install", "-y", "-qq", "--no-install-recommends", *lacking)
        lacking = missing(packages)
    if lacking:
        raise DistributionError(
            f"Please install {', '.join(lacking)} (Debian's names) and run this again."
        )


def missing(packages: Mapping[str, str]) -> list[str]:
    """The packages whose programs are not on PATH, each once."""
    return sorted({package for name, package in packages.items() if not shutil.which(name)})


def _apt_get(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["apt-get", *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
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
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-LAST_WORDS:]
        raise DistributionError(f"apt-get {' '.join(arguments)} failed: {said}")
