"""The cluster's programs, built from pinned Go modules (gomod/*/go.mod, checked by go.sum).

A module is built into `<cache>/bin/<module>-<hash>/`, where the hash covers its sources, so that
another version never reuses an old program and nothing is built twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from glm_dev.cluster.errors import ClusterError
from glm_dev.cluster.toolchain import find_go
from glm_dev.paths import CACHE_VARIABLE, cache_dir

SOURCES = Path(__file__).parent / "gomod"
BUILD_SECONDS = 1800
MIB_PER_SECOND = 12
"""What a second of building leaves in Go's caches (6.7 GiB for everything)."""
FLAGS = ("-trimpath", "-mod=readonly", "-buildvcs=false")
KUBERNETES_VERSION = "1.35.4"
_VERSIONED = (
    f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES_VERSION} "
    "-X k8s.io/component-base/version.gitMajor=1 "
    "-X k8s.io/component-base/version.gitMinor=35"
)
Say = Callable[[str], None]


def say_on_stderr(text: str) -> None:
    """Print progress where it does not mix with a command's own output."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Program:
    """One executable: its package, and its build time in seconds on two cold cores (measured)."""

    name: str
    package: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Module:
    """One Go module of gomod/ and what is built from it."""

    name: str
    programs: tuple[Program, ...]
    link: str = ""

    @property
    def folder(self) -> Path:
        """Where its programs are, or will be."""
        return cache_dir() / "bin" / f"{self.name}-{source_hash(SOURCES / self.name, self.link)}"

    def path(self, program: str) -> Path:
        """The full path of one of its programs, built or not."""
        return self.folder / program


KUBERNETES = Module(
    "kubernetes",
    (
        Program("etcd", "go.etcd.io/etcd/server/v3", 60),
        Program("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 235),
        Program("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 60),
        Program("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 8),
        Program("kubectl", "k8s.io/kubernetes/cmd/kubectl", 24),
        Program("kubelet", "k8s.io/kubernetes/cmd/kubelet", 24),
        Program("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 10),
    ),
    _VERSIONED,
)
CONTAINERD = Module(
    "containerd",
    (
        Program("containerd", "github.com/containerd/containerd/v2/cmd/containerd", 60),
        Program(
            "containerd-shim-runc-v2",
            "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            10,
        ),
        Program("ctr", "github.com/containerd/containerd/v2/cmd/ctr", 10),
        Program("bridge", "github.com/containernetworking/plugins/plugins/main/bridge", 5),
        Program("loopback", "github.com/containernetworking/plugins/plugins/main/loopback", 1),
        Program("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local", 1),
        Program("portmap", "github.com/containernetworking/plugins/plugins/meta/portmap", 1),
    ),
)
COREDNS = Module("coredns", (Program("coredns", "glm-operator.io/dev/coredns", 60),))
PODS = Module(
    "pods",
    (
        Program("pause", "glm-operator.io/dev/pods/pause", 2),
        Program("hello", "glm-operator.io/dev/pods/hello", 4),
    ),
)
KWOK = Module(
    "kwok",
    (
        Program("kwok", "sigs.k8s.io/kwok/cmd/kwok", 110),
        Program("stages", "glm-operator.io/dev/kwok/stages", 2),
    ),
)
HELM = Module("helm", (Program("helm", "helm.sh/helm/v4/cmd/helm", 100),))
CONTROL_PLANE = (KUBERNETES, COREDNS)
NODES = (CONTAINERD, PODS)


def source_hash(folder: Path, link: str = "") -> str:
    """Twelve hex digits over every file of a module and the flags it is built with."""
    digest = hashlib.sha256(f"{FLAGS}{link}".encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def helm(say: Say = say_on_stderr) -> Path:
    """The Helm program, built on first use."""
    return build([HELM], say).path("helm")


def kubectl(say: Say = say_on_stderr) -> Path:
    """The kubectl program, built on first use."""
    alone = tuple(program for program in KUBERNETES.programs if program.name == "kubectl")
    return build([replace(KUBERNETES, programs=alone)], say).path("kubectl")


def build(modules: Sequence[Module], say: Say = say_on_stderr) -> Module:
    """Build what is missing of some modules, with progress, and return the last of them.

    Raises:
        ClusterError: a build failed; the message ends with what Go said.
    """
    if _missing(modules):
        with _build_lock(say):
            _build_all(_missing(modules), say)
    return modules[-1]


def _missing(modules: Sequence[Module]) -> list[tuple[Module, Program]]:
    return [
        (module, program)
        for module in modules
        for program in module.programs
        if not module.path(program.name).exists()
    ]


def _build_all(work: Sequence[tuple[Module, Program]], say: Say) -> None:
    go = find_go(say)
    _require_room([program for _, program in work])
    started = time.monotonic()
    for done, (module, program) in enumerate(work):
        left = remaining([p.seconds for _, p in work], done, time.monotonic() - started)
        say(f"Building {program.name} ({done + 1} of {len(work)}, {about(left)} left)")
        _build_one(go, module, program)


def _require_room(work: Sequence[Program]) -> None:
    needed = sum(program.seconds for program in work) * MIB_PER_SECOND
    free = shutil.disk_usage(cache_dir()).free >> 20
    if free < needed:
        raise ClusterError(
            f"Building {len(work)} programs takes up to {needed} MiB of disk with Go's caches and "
            f"{free} MiB are free: free some, or set {CACHE_VARIABLE}, GOCACHE and GOMODCACHE to "
            "folders on another disk."
        )


def remaining(estimates: Sequence[int], done: int, spent: float) -> float:
    """Seconds still to go: the estimates that are left, scaled by how the first ones turned out.

    The scale never goes below a half: a warm cache makes small programs look free.
    """
    expected = sum(estimates[:done])
    pace = max(0.5, spent / expected) if expected else 1.0
    return sum(estimates[done:]) * pace


def about(seconds: float) -> str:
    """A duration in the precision that an estimate deserves."""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    return f"about {round(seconds / 60)} min"


def _build_one(go: Path, module: Module, program: Program) -> None:
    module.folder.mkdir(parents=True, exist_ok=True)
    target = module.path(program.name)
    partial = target.with_name(f".{program.name}.partial")
    link = f"-s -w {module.link}".strip()
    done = subprocess.run(
        [str(go), "build", *FLAGS, "-ldflags", link, "-o", str(partial), program.package],
        cwd=SOURCES / module.name,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"{program.name} could not be built: {done.stderr.strip()[-1500:]}")
    partial.replace(target)


@contextmanager
def _build_lock(say: Say) -> Iterator[None]:
    folder = cache_dir() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another command is building the same programs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
