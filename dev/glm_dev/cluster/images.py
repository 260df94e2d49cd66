"""Images without a registry: archives, and disks on which they are unpacked already.

A seed is a containerd root into which some archives were imported once. A node gets it as hard
links, because containerd never changes a blob or a committed snapshot; only the databases are
copied. Three nodes then start as quickly as one and take no disk of their own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from glm_dev.cluster.binaries import CONTAINERD, PODS, Say
from glm_dev.cluster.commands import run
from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.locks import exclusive
from glm_dev.cluster.node_config import PAUSE_IMAGE
from glm_dev.kubectl import WaitTimeout, wait_for
from glm_dev.paths import cache_dir

IMPORT_SECONDS = 300.0
START_SECONDS = 20.0
SEEDS_KEPT = 3
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PARTIAL = ".partial"
SEED_STATE = Path("/run/glm-operator-seed")
"""Short, because a socket's path has at most 107 characters."""
UNTIL_PARENT_ENDS = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount")
"""Neither the process nor a mount of its may outlive a killed command."""


def single_program_archive(program: Path, image: str, target: Path) -> Path:
    """Write a docker-archive of an image that holds one static program and nothing else."""
    layer = _tar({program.name: (program.read_bytes(), 0o755)})
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [image], "Layers": ["layer.tar"]}]
    files = {
        "config.json": (json.dumps(config).encode(), 0o644),
        "layer.tar": (layer, 0o644),
        "manifest.json": (json.dumps(manifest).encode(), 0o644),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_tar(files))
    return target


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def seed(archives: Sequence[Path], say: Say) -> Path:
    """A containerd root with the pause image and some archives unpacked, from the cache if there.

    Raises:
        ClusterError: an archive is missing or is none.
    """
    folder = cache_dir() / "seeds" / _seed_name(archives)
    with exclusive("unpacking images", IMPORT_SECONDS):
        if not folder.exists():
            if archives:
                say(f"Unpacking {len(archives)} images once for all nodes")
            _make_seed(folder, archives)
            _forget_old_seeds(folder.parent)
        os.utime(folder)
    return folder


def _seed_name(archives: Sequence[Path]) -> str:
    digest = hashlib.sha256(f"{CONTAINERD.folder.name} {PODS.folder.name}".encode())
    for archive in archives:
        digest.update(archive_digest(archive).encode())
    return digest.hexdigest()[:16]


def archive_digest(path: Path) -> str:
    """The SHA-256 of an archive, in hex digits.

    Raises:
        ClusterError: there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise ClusterError(f"There is no image archive {path}.") from error


def _make_seed(folder: Path, archives: Sequence[Path]) -> None:
    partial = folder.with_name(PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # what a killed command left
    partial.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="glm-pause-") as temporary:
        pause = Path(temporary) / "pause.tar"
        single_program_archive(PODS.path("pause"), PAUSE_IMAGE, pause)
        with _containerd(partial) as address:
            for archive in (pause, *archives):
                import_archive(archive, address)
    partial.rename(folder)


@contextmanager
def _containerd(root: Path) -> Iterator[str]:
    """A containerd that serves one root for a while, and ends with this process at the latest."""
    shutil.rmtree(SEED_STATE, ignore_errors=True)
    SEED_STATE.mkdir(mode=0o700)
    config, socket = SEED_STATE / "config.toml", SEED_STATE / "socket"
    config.write_text(seed_config(root))
    command = [*UNTIL_PARENT_ENDS, str(CONTAINERD.path("containerd")), "-c", str(config)]
    with (SEED_STATE / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for("containerd", lambda: _serves(str(socket)), START_SECONDS, 0.05)
        yield str(socket)
    except WaitTimeout as error:
        said = (SEED_STATE / "log").read_text()[-500:]
        raise ClusterError(f"containerd does not start: {said}") from error
    finally:
        process.terminate()
        process.wait(START_SECONDS)
        shutil.rmtree(SEED_STATE)


def seed_config(root: Path) -> str:
    """A containerd without the parts that Kubernetes asks."""
    return f"""\
version = 3
root = "{root}"
state = "{SEED_STATE}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
]
[grpc]
  address = "{SEED_STATE}/socket"
[ttrpc]
  address = "{SEED_STATE}/ttrpc"
"""


def _serves(socket: str) -> bool:
    try:
        run(str(CONTAINERD.path("ctr")), "-a", socket, "version")
    except ClusterError:
        return False
    return True


def import_archive(archive: Path, address: str, enter: Sequence[str] = ()) -> None:
    """Import and unpack an archive into a containerd, inside a node if `enter` leads there.

    Raises:
        ClusterError: containerd refused it.
    """
    ctr = [str(CONTAINERD.path("ctr")), "-a", address, "-n", "k8s.io"]
    run(*enter, *ctr, "images", "import", str(archive.resolve()), seconds=IMPORT_SECONDS)


def plant(seed_folder: Path, target: Path) -> None:
    """Give a node the seed as its containerd root, unless it has one from an earlier life."""
    if target.exists():
        return
    run("cp", "--archive", "--link", str(seed_folder), str(target))
    for database in seed_folder.rglob("*.db"):
        copy = target / database.relative_to(seed_folder)
        run("cp", "--archive", "--remove-destination", str(database), str(copy))


def _forget_old_seeds(folder: Path) -> None:
    seeds = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in seeds[SEEDS_KEPT:]:
        shutil.rmtree(old)
