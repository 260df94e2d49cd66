"""Installs the real vLLM's CPU build once per machine, as a tree that containers see read-only.

The tree is no virtual environment: it holds its interpreter, so /opt/vllm/bin/python3 works in
any container of the base's Debian, for any user, with nothing else installed.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import time
from pathlib import Path

from glm_dev.engine import sandbox
from glm_dev.engine.paths import LOCK, Engine, engine
from glm_dev.images import base, commands
from glm_dev.images.base import locked, making
from glm_dev.images.errors import BuildError
from glm_dev.paths import cache_dir

INSTALL_SECONDS = 3600
COMPILE_SECONDS = 1200
CHECK_SECONDS = 300
DISK_BYTES = 16 << 30
"""Free space asked for: downloads, the unpacked cache and the tree, which share what they can."""
UNPACKED_GIGABYTES = 6
PLATFORMS = {"x86_64": "x86_64-manylinux_2_36", "aarch64": "aarch64-manylinux_2_36"}


def installed() -> Engine:
    """The engine with its tree in place; made on first use, atomically.

    Raises:
        BuildError: not root on Linux, no space, an unknown machine, or a step that failed.
    """
    wanted = engine()
    if wanted.root.exists():
        return wanted
    commands.need_root("Installing the engine")
    with locked(cache_dir() / "engine" / "install.lock"):
        if not wanted.root.exists():
            _make(wanted)
    return wanted


def _make(wanted: Engine) -> None:
    tree = base.rootfs()
    _check_space()
    began = time.monotonic()
    _say("Installing vLLM's CPU build: 3 GB to download when new, then 1 to 2 minutes")
    with making(wanted.root) as unfinished:
        _copy_interpreter(tree, unfinished)
        _install_packages(unfinished, wanted.folder / "install.log")
        _say(f"packages are in after {time.monotonic() - began:.0f} s; compiling them ...")
        _compile(unfinished, wanted.folder / "install.log")
        _say(f"compiled after {time.monotonic() - began:.0f} s; trying it as another user ...")
        _check(unfinished, wanted.folder / "install.log")
    _say(f"the engine is in {wanted.root} after {time.monotonic() - began:.0f} s")


def _check_space() -> None:
    free = shutil.disk_usage(cache_dir()).free
    if free < DISK_BYTES:
        raise BuildError(
            f"{cache_dir()} has {free >> 30} GiB free and the engine needs {DISK_BYTES >> 30}: "
            "free some, or set GLM_OPERATOR_CACHE to a folder on a larger disk"
        )


def _copy_interpreter(tree: Path, root: Path) -> None:
    """Debian's own interpreter, which finds its library relative to itself."""
    name = f"python{base.PYTHON}"
    (root / "bin").mkdir()
    shutil.copy2(tree / "usr/bin" / name, root / "bin" / name)
    for link in ("python3", "python"):
        (root / "bin" / link).symlink_to(name)
    left_out = shutil.ignore_patterns("__pycache__", "test", "tests", "idlelib", "tkinter")
    shutil.copytree(tree / "usr/lib" / name, root / "lib" / name, ignore=left_out, symlinks=True)


def _install_packages(root: Path, log: Path) -> None:
    machine = os.uname().machine
    if machine not in PLATFORMS:
        raise BuildError(f"no engine for {machine}: there are {', '.join(PLATFORMS)}")
    target = root / "lib" / f"python{base.PYTHON}" / "dist-packages"
    command = [
        *(_uv(), "pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
        *("--python-version", base.PYTHON, "--python-platform", PLATFORMS[machine]),
        *("--target", str(target), "-r", str(LOCK)),
    ]
    env = {"UV_CACHE_DIR": str(cache_dir() / "uv"), "UV_HTTP_TIMEOUT": "300"}
    before = shutil.disk_usage(cache_dir()).used

    def progress(seconds: float) -> str:
        grown = (shutil.disk_usage(cache_dir()).used - before) / 1e9
        return f"  {seconds:4.0f} s: {grown:.1f} of about {UNPACKED_GIGABYTES} GB on disk"

    commands.run(command, log=log, seconds=INSTALL_SECONDS, env=env, progress=progress)
    shutil.rmtree(target / "bin", ignore_errors=True)


def _uv() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "uv"
    if not beside.exists():
        raise BuildError(f"uv is missing beside {sys.executable}: run `make venv`")
    return str(beside)


def _compile(root: Path, log: Path) -> None:
    """The tree is read-only for containers: what is not compiled here is compiled at each start."""
    inside = sandbox.Sandbox(root, writable=True)
    command = ["-m", "compileall", "-qq", "-j", str(os.cpu_count() or 1), "/opt/vllm/lib"]
    # Some packages ship templates that are no valid Python; compileall then ends with 1.
    lenient = ["sh", "-c", '"$0" "$@" || true']
    commands.run(
        inside.command([*lenient, "/opt/vllm/bin/python3", *command]),
        log=log,
        seconds=COMPILE_SECONDS,
    )


def _check(root: Path, log: Path) -> None:
    inside = sandbox.Sandbox(root)
    probe = "import ssl, sqlite3, ctypes, torch, transformers, vllm; print(vllm.__version__)"
    commands.run(
        inside.command(["/opt/vllm/bin/python3", "-c", probe]), log=log, seconds=CHECK_SECONDS
    )


def _say(text: str) -> None:
    print(text, flush=True)
