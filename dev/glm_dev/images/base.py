"""The base of every image: Debian with Python, made once by debootstrap where no registry is.

The engine's interpreter comes from the same tree, so it always fits the containers it runs in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from glm_dev.images import commands
from glm_dev.paths import cache_dir

SUITE = "bookworm"
PYTHON = "3.11"
"""The Python of that Debian, and of the engine."""
PACKAGES = ("ca-certificates", "libnuma1", "python3", "python3-pip", "python3-venv")
RECIPE = 1
"""Raised when what is done below to the tree changes."""
MIRROR_VARIABLE = "GLM_OPERATOR_DEBIAN_MIRROR"
"""Environment variable with the Debian mirror to use instead of debootstrap's own."""
UNUSED = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/cache/debconf",
)
DEBOOTSTRAP_SECONDS = 900


def key() -> str:
    """Names the content of the tree."""
    text = repr((SUITE, PACKAGES, RECIPE, UNUSED, os.uname().machine))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def rootfs() -> Path:
    """The unpacked tree, made on first use (about a minute).

    Raises:
        BuildError: not root, debootstrap cannot be installed, or it failed.
    """
    folder = cache_dir() / "images" / f"base-{key()}"
    with locked(cache_dir() / "images" / "base.lock"):
        if not folder.exists():
            _debootstrap(folder)
    return folder


def _debootstrap(folder: Path) -> None:
    commands.need_root("Making the base image")
    program = commands.need("debootstrap", "debootstrap")
    print(
        f"Making the base tree: Debian {SUITE} with Python {PYTHON}, about a minute ...", flush=True
    )
    with making(folder) as unfinished:
        mirror = os.environ.get(MIRROR_VARIABLE, "")
        include = f"--include={','.join(PACKAGES)}"
        command = [program, "--variant=minbase", include, SUITE, str(unfinished)]
        commands.run(
            [*command, *([mirror] if mirror else [])],
            log=folder.with_suffix(".log"),
            seconds=DEBOOTSTRAP_SECONDS,
        )
        for name in UNUSED:
            _empty(unfinished / name)
        # debootstrap copies the machine's own: neither belongs into an image.
        for name in ("etc/hostname", "etc/resolv.conf"):
            (unfinished / name).write_text("")


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its name when the block ends well, else vanishes.

    The caller holds a lock: what an earlier, killed attempt left is removed here.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    unfinished.chmod(0o755)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two commands do not build the same thing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
