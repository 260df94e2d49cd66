"""The images of this project and what each is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glm_dev.images import base

ROOT = Path(__file__).resolve().parents[3]
RECIPE = 1
"""Raised when build.py makes something else from the same inputs."""
TAG = "dev"


@dataclass(frozen=True, slots=True)
class Image:
    """One image; all paths are relative to the checkout."""

    name: str
    dockerfile: str
    inputs: tuple[str, ...]
    """Files and folders that the Dockerfile copies."""
    requirements: str = ""
    """The hashed lock whose wheels the build installs; empty when it installs none."""

    @property
    def reference(self) -> str:
        """The name that pods use."""
        return f"localhost/glm-{self.name}:{TAG}"

    def files(self) -> Iterator[Path]:
        """Every file the build sees, in a fixed order."""
        for item in sorted({self.dockerfile, *self.inputs}):
            path = ROOT / item
            if path.is_file():
                yield path
            else:
                found = (p for p in path.rglob("*") if p.is_file() and p.suffix != ".pyc")
                yield from sorted(found)

    def content_hash(self) -> str:
        """Names everything that determines the image."""
        digest = hashlib.sha256(f"{self.reference} {base.key()} {RECIPE}".encode())
        for path in self.files():
            digest.update(f"\0{path.relative_to(ROOT)}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]


IMAGES = {
    image.name: image
    for image in (
        Image(
            "operator",
            "operator/Dockerfile",
            ("operator/glm_operator", "requirements/operator.txt"),
            "requirements/operator.txt",
        ),
        Image(
            "gateway",
            "serving/Dockerfile",
            (
                "serving/glm_serving/__init__.py",
                "serving/glm_serving/compat.py",
                "serving/glm_serving/gateway",
                "requirements/gateway.txt",
            ),
            "requirements/gateway.txt",
        ),
        Image(
            "weights",
            "serving/weights.Dockerfile",
            (
                "serving/glm_serving/__init__.py",
                "serving/glm_serving/compat.py",
                "serving/glm_serving/weights",
                "requirements/weights.txt",
            ),
            "requirements/weights.txt",
        ),
        Image("engine-cpu", "dev/images/engine-cpu/Dockerfile", ()),
        Image(
            "engine-sim",
            "dev/images/engine-sim/Dockerfile",
            ("dev/images/engine-sim/vllm", "dev/glm_dev/__init__.py", "dev/glm_dev/simulator"),
        ),
    )
}
PRODUCT = ("operator", "gateway", "weights")
"""The images that users install; the others are for machines without GPUs."""
