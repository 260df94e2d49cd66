"""Programs that take minutes: run to their end, logged to a file, their last words in the error."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from glm_dev import distribution
from glm_dev.images.errors import BuildError

PROGRESS_SECONDS = 15.0
LAST_WORDS = 1200
"""Characters of a failed program's log that its error shows."""


def need(program: str, package: str) -> str:
    """The path of a program, installed from the distribution where it can be.

    Raises:
        BuildError: it is missing and cannot be installed; the message names Debian's package.
    """
    try:
        distribution.require({program: package}, lambda text: print(text, flush=True))
    except distribution.DistributionError as error:
        raise BuildError(str(error)) from error
    return str(shutil.which(program))


def need_root(what: str) -> None:
    """Raises BuildError unless this is root on Linux, which `what` needs."""
    if not hasattr(os, "geteuid") or os.uname().sysname != "Linux" or os.geteuid() != 0:
        raise BuildError(f"{what} needs Linux and root: run it in a virtual machine or as root")


def run(
    command: Sequence[str],
    *,
    log: Path,
    seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    progress: Callable[[float], str] | None = None,
) -> None:
    """Run a program to its end, appending all it says to `log`.

    `progress` is asked every PROGRESS_SECONDS, with the seconds gone by, for a line to print.

    Raises:
        BuildError: it failed or took too long; the message has its last words.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        ) as process,
    ):
        try:
            code = _wait(process, seconds, progress)
        except BaseException:
            process.kill()
            raise
    if code is None:
        raise BuildError(f"{command[0]} took longer than {seconds:.0f} s; see {log}")
    if code:
        words = log.read_text(errors="replace")[-LAST_WORDS:].strip()
        raise BuildError(f"{Path(command[0]).name} failed, see {log}:\n{words}")


def _wait(
    process: subprocess.Popen[bytes], seconds: float, progress: Callable[[float], str] | None
) -> int | None:
    """The exit code, or None when the time is over and the process was killed."""
    began = time.monotonic()
    while (gone := time.monotonic() - began) < seconds:
        try:
            return process.wait(min(PROGRESS_SECONDS, seconds - gone))
        except subprocess.TimeoutExpired:
            if progress is not None:
                print(progress(time.monotonic() - began), flush=True)
    process.kill()
    return None
