"""Short programs of the machine, run to their end."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from glm_dev.cluster.errors import ClusterError

COMMAND_SECONDS = 60.0


def run(*command: str, stdin: str | None = None, seconds: float = COMMAND_SECONDS) -> str:
    """Standard output of a command.

    Raises:
        ClusterError: it failed, was not there, or took too long.
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )
    except FileNotFoundError as error:
        raise ClusterError(f"The program {command[0]} is missing on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(command)} took longer than {seconds:.0f} s.") from error
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise ClusterError(f"{' '.join(command)} failed: {said[-800:]}")
    return done.stdout


def ip_batch(lines: Sequence[str], enter: Sequence[str] = ()) -> None:
    """Run several `ip` commands, in other namespaces if given; the first that fails ends it.

    Raises:
        ClusterError: with what `ip` said.
    """
    run(*enter, "ip", "-batch", "-", stdin="\n".join(lines) + "\n")
