"""A cluster to try the product on: the local one with everything in it, or the user's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glm_dev.cluster import ClusterError, ClusterSpec, LocalCluster, binaries, preflight
from glm_dev.engine.install import install
from glm_dev.images import build_images
from glm_dev.kubectl import Kubectl, wait_for

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "charts" / "glm-operator"
SYSTEM = "glm-system"
"""Namespace of the operator."""
PRODUCT_IMAGES = ("operator", "gateway", "weights")
SIMULATOR_IMAGE, ENGINE_IMAGE = "engine-sim", "engine-cpu"
HELM_SECONDS = 180
LISTED_IMAGES = 50
"""A kubelet lists no more of what its node holds (nodeStatusMaxImages), and the largest first."""


class SiteError(RuntimeError):
    """The cluster cannot be used as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Site:
    """A running cluster and the tools for it."""

    kubectl: Kubectl
    helm: Path
    real_engine: bool
    """Whether pods of RuntimeClass glm-engine find the real vLLM."""
    local: LocalCluster | None = None

    def install_chart(self, release: str = "glm-operator", **values: Any) -> None:
        """Install or upgrade the chart with the images of this checkout, and wait for it.

        Raises:
            SiteError: with what Helm said.
        """
        merged = {**_image_values(), **values}
        self.run_helm(
            *("upgrade", "--install", release, str(CHART), "--namespace", SYSTEM),
            *("--create-namespace", "--wait", "--timeout", f"{HELM_SECONDS}s"),
            *("--set-json", ",".join(f"{k}={json.dumps(v)}" for k, v in merged.items())),
        )

    def run_helm(self, *args: str) -> str:
        """Run Helm on this cluster. Raises SiteError with what it said."""
        done = subprocess.run(
            [str(self.helm), *args],
            capture_output=True,
            text=True,
            timeout=HELM_SECONDS + 60,
            env=self.kubectl.environment(),
            check=False,
        )
        if done.returncode:
            raise SiteError(f"helm {args[0]}: {done.stderr.strip()[-800:]}")
        return done.stdout

    def create_namespace(self, name: str) -> None:
        """A namespace that enforces Pod Security restricted, with its ServiceAccount."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": name, "labels": labels}
        self.kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        wait_for(
            f"the default ServiceAccount of {name}",
            lambda: self.kubectl.list("serviceaccount", name),
            timeout=30,
        )


def _image_values() -> dict[str, Any]:
    return {
        "image.repository": "localhost/glm-operator",
        "image.tag": "dev",
        "gateway.image.repository": "localhost/glm-gateway",
        "gateway.image.tag": "dev",
        "weights.image.repository": "localhost/glm-weights",
        "weights.image.tag": "dev",
    }


@contextmanager
def local_site(name: str, nodes: str, *, real_engine: bool, keep: bool = False) -> Iterator[Site]:
    """Start a local cluster with all images, and take it down at the end unless `keep`."""
    preflight.require_host(binaries.say_on_stderr)
    engine = install() if real_engine else None
    wanted = (*PRODUCT_IMAGES, SIMULATOR_IMAGE, *((ENGINE_IMAGE,) if real_engine else ()))
    archives = build_images(wanted)
    helm = binaries.helm()
    spec = ClusterSpec(
        name=name,
        nodes=nodes,
        engine=engine.folder if engine else None,
        images=tuple(archives[image] for image in wanted),
        temporary=not keep,
    )
    cluster = LocalCluster.up(spec)
    try:
        yield Site(cluster.kubectl, helm, real_engine, cluster)
    finally:
        if not keep:
            cluster.down()


def foreign_site(kubeconfig: Path) -> Site:
    """The user's own cluster, which must offer GPUs and hold the images already.

    Raises:
        SiteError: something is missing; the message says how to bring it.
    """
    if not kubeconfig.is_file():
        raise SiteError(f"There is no kubeconfig {kubeconfig}.")
    kubectl = Kubectl(_program("kubectl", binaries.kubectl), kubeconfig.resolve())
    nodes = kubectl.list("node")
    _require_gpus(nodes)
    _require_images(nodes, (*PRODUCT_IMAGES, SIMULATOR_IMAGE))
    return Site(kubectl, _program("helm", binaries.helm), real_engine=False)


def _program(name: str, build: Any) -> Path:
    found = shutil.which(name)
    return Path(found) if found else Path(build())


def _require_gpus(nodes: Sequence[Any]) -> None:
    gpus = [int(n["status"].get("allocatable", {}).get("nvidia.com/gpu", "0")) for n in nodes]
    most = max(gpus, default=0)
    if sum(gpus) < 3 or most < 2:
        raise SiteError(
            f"The cluster offers {sum(gpus)} nvidia.com/gpu, at most {most} of them on one node, "
            "and the demo needs 3, two of them on one node. "
            "To pretend: kubectl patch node NAME --subresource=status -p "
            '\'{"status":{"capacity":{"nvidia.com/gpu":"4"}}}\' and label it '
            "nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3 nvidia.com/gpu.memory=81559."
        )


def _require_images(nodes: Sequence[Any], images: Sequence[str]) -> None:
    """Every node that may run a pod must hold the images: there is no registry to pull from."""
    wanted = {f"localhost/glm-{image}:dev" for image in images}
    cut = [node for node in nodes if len(_listed(node)) >= LISTED_IMAGES]
    if missing := _missing([node for node in nodes if node not in cut], wanted):
        raise SiteError(f"The nodes lack {', '.join(missing)}: {_how_to_load(images)}.")
    if unseen := _missing(cut, wanted):
        print(
            f"Some nodes list {LISTED_IMAGES} images, the most that a kubelet shows, and not "
            f"{', '.join(unseen)}. If a pod there lacks its image, load what `make images` builds.",
            file=sys.stderr,
        )


def _missing(nodes: Sequence[Any], wanted: set[str]) -> list[str]:
    """The images that one of the nodes does not list."""
    held = [{name for image in _listed(node) for name in image.get("names", [])} for node in nodes]
    return sorted(set().union(*(wanted - names for names in held)))


def _listed(node: Any) -> list[Any]:
    return list(node["status"].get("images", []))


def _how_to_load(images: Sequence[str]) -> str:
    if os.uname().sysname == "Linux" and os.geteuid() == 0:
        archives = build_images(tuple(images))
        where = " ".join(str(path) for path in archives.values())
        return f"load these archives into every node (kind load image-archive FILE): {where}"
    return "build them with `make images` on Linux as root and load them into every node"


__all__ = ["ClusterError", "Site", "SiteError", "foreign_site", "local_site"]
