"""Processes that outlive the command that starts them, and are never mistaken for others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from glm_dev.cluster.errors import ClusterError

RECORD_SECONDS = 10.0
KILL_SECONDS = 20.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# The process writes its own record before it becomes the program: whoever started it may be
# killed at any instant and the record is there all the same.
# Shell builtins only: whoever looks for the program's first child must not find a helper's.
_RECORDER = (
    "read -r boot </proc/sys/kernel/random/boot_id; read -r stat </proc/$$/stat; "
    "field22() { shift 21; started=$1; }; field22 $stat; "
    'echo "$$ $started $boot" >"$0" && exec "$@"'
)


@dataclass(frozen=True, slots=True)
class Record:
    """One process: its id, and its start in clock ticks since a boot, which no other shares."""

    pid: int
    started: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return boot_id() == self.boot and start_of(self.pid) == self.started


def boot_id() -> str:
    """Names the time since the machine last started."""
    return BOOT_ID.read_text().strip()


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since the boot; None if it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def myself() -> Record:
    """The process that calls this."""
    started = start_of(os.getpid())
    assert started is not None, "a running process has a start"
    return Record(os.getpid(), started, boot_id())


def spawn(
    record: Path, log: Path, command: Sequence[str], env: Mapping[str, str] | None = None
) -> Record:
    """Start a program of its own session, adopted by init, that records itself.

    Raises:
        ClusterError: it left no record within RECORD_SECONDS.
    """
    record.unlink(missing_ok=True)
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "sh", "-c", _RECORDER, str(record), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if env is None else {**os.environ, **env},
            check=True,
            timeout=RECORD_SECONDS,
        )
    deadline = time.monotonic() + RECORD_SECONDS
    while (found := read_record(record)) is None:
        if time.monotonic() > deadline:
            raise ClusterError(f"{command[0]} could not be started; see {log}.")
        time.sleep(0.005)
    return found


def read_record(path: Path) -> Record | None:
    """What a process recorded; None before it did."""
    try:
        fields = path.read_text().split()
    except FileNotFoundError:
        return None
    return Record(int(fields[0]), int(fields[1]), fields[2]) if fields else None


def first_child(pid: int) -> int | None:
    """The process's first child, None while it has none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(children[0]) if children else None


def kill(record: Record) -> None:
    """SIGKILL a recorded process, and nobody who got its number later."""
    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        if record.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
    finally:
        os.close(handle)


def wait_gone(records: Sequence[Record]) -> None:
    """Return when none of the processes runs any more.

    Raises:
        ClusterError: one of them still does after KILL_SECONDS.
    """
    deadline = time.monotonic() + KILL_SECONDS
    while left := [record.pid for record in records if record.alive]:
        if time.monotonic() > deadline:
            raise ClusterError(f"Processes {left} do not end although they were killed.")
        time.sleep(0.02)


def end(records: Sequence[Record]) -> None:
    """Kill processes and the first child of each, and return when they are gone.

    A node is one such pair: `unshare` outside, and process 1 of the node inside.
    """
    inside = [child for record in records if (child := _child_of(record))]
    for record in (*inside, *records):
        kill(record)
    wait_gone((*inside, *records))


def _child_of(record: Record) -> Record | None:
    child = first_child(record.pid) if record.alive else None
    started = start_of(child) if child else None
    return Record(child, started, record.boot) if child and started is not None else None
