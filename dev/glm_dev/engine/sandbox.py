"""Runs the engine as a pod would, without a cluster: other root, other user, nothing writable.

A sandbox is a set of namespaces that ends with its first process: the base image's tree read-only
as root, the engine at /opt/vllm, checkpoints at /models, memory at /tmp and /dev/shm. The network
is the machine's own.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glm_dev.engine.paths import MODELS_IN_CONTAINER, ROOT_IN_CONTAINER
from glm_dev.images import base, commands
from glm_dev.paths import cache_dir

USER = 10001
"""The user of engine pods."""

# The shell stays the first process: one that changes its user would no longer die with its parent.
# The overlay only gives the mount points: the base tree itself is never written.
_ENTER = """
set -eu
mount -t tmpfs -o mode=755 sandbox {scratch}
cd {scratch}
mkdir upper work root
mount -t overlay sandbox -o lowerdir={base},upperdir=upper,workdir=work root
mkdir -p root{engine_at} root{models_at}
mount --rbind {engine} root{engine_at}
[ {writable} = 1 ] || mount -o remount,bind,ro root{engine_at}
{models}
mount -t proc proc root/proc
mount --rbind /sys root/sys
mount --rbind /dev root/dev
mount -t tmpfs -o mode=1777 shm root/dev/shm
mount -t tmpfs -o mode=1777 tmp root/tmp
{shared}
mount -o remount,bind,ro root
chroot --userspec={user}:{user} root env -i "$@" &
child=$!
trap 'kill -TERM $child' TERM
status=0
wait $child || status=$?
while kill -0 $child 2>/dev/null; do status=0; wait $child || status=$?; done
exit $status
"""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where the engine and its checkpoints lie outside."""

    root: Path
    models: Path | None = None
    writable: bool = False
    """Root may write to the engine and the checkpoints: only while they are made."""
    env: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[Path, str] = field(default_factory=dict)
    """More folders to show read-only, with their place inside."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside; it needs root."""
        commands.need_root("Running the engine")
        variables = {
            "PATH": f"{ROOT_IN_CONTAINER}/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "PYTHONUNBUFFERED": "1",
            **self.env,
        }
        assignments = [f"{name}={value}" for name, value in variables.items()]
        enter = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ]
        return [*enter, "sh", "-c", self._script(), "sandbox", *assignments, *argv]

    def _script(self) -> str:
        scratch = cache_dir() / "engine" / ".sandbox"
        scratch.mkdir(parents=True, exist_ok=True)
        return _ENTER.format(
            scratch=shlex.quote(str(scratch)),
            base=shlex.quote(str(base.rootfs())),
            engine=shlex.quote(str(self.root)),
            engine_at=ROOT_IN_CONTAINER,
            models_at=MODELS_IN_CONTAINER,
            writable=int(self.writable),
            models=self._bind(self.models, MODELS_IN_CONTAINER, self.writable),
            shared="\n".join(self._bind(path, at, False) for path, at in self.shared.items()),
            user=0 if self.writable else USER,
        )

    @staticmethod
    def _bind(path: Path | None, inside: str, writable: bool) -> str:
        if path is None:
            return ":"
        place = shlex.quote(f"root{inside}")
        lines = [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(path))} {place}"]
        if not writable:
            lines.append(f"mount -o remount,bind,ro {place}")
        return "\n".join(lines)
