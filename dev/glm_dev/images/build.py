"""Builds images with buildah, which needs no daemon, from the project's own Dockerfiles.

Everything lies in the project's cache, buildah's storage included: nothing of the machine's own
images is touched. An image whose inputs did not change is not built again.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from glm_dev.images import base, commands, wheels
from glm_dev.images.base import locked, making
from glm_dev.images.catalog import IMAGES, ROOT, Image
from glm_dev.images.errors import BuildError
from glm_dev.paths import cache_dir

BASE_REFERENCE = "localhost/glm-base"
BUILD_SECONDS = 900
KEPT_ARCHIVES = 4
"""Of each image; more than one, because another process may be loading an older one."""
WHEELS_IN_BUILD = "/wheels"


def build_images(names: Iterable[str]) -> dict[str, Path]:
    """Archives of images by name, for `docker load` or `ctr import`; built where inputs changed.

    Raises:
        BuildError: an unknown name, not root on Linux, or a program that is missing or failed.
    """
    wanted = [_image(name) for name in names]
    return {image.name: _archive(image) for image in wanted}


def _image(name: str) -> Image:
    if name not in IMAGES:
        raise BuildError(f"no image is called {name!r}: there are {', '.join(IMAGES)}")
    return IMAGES[name]


def _archive(image: Image) -> Path:
    folder = cache_dir() / "images" / image.content_hash()
    archive = folder / f"{image.name}.tar"
    if archive.exists():
        folder.touch()
        return archive
    commands.need_root("Building images")
    commands.need("buildah", "buildah")
    with locked(cache_dir() / "images" / "build.lock"):
        if not archive.exists():
            began = time.monotonic()
            print(f"Building {image.reference} ...", flush=True)
            with making(folder) as unfinished:
                _build(image, unfinished / archive.name, folder.with_suffix(".log"))
            _forget_old(image)
            print(f"built {image.reference} in {time.monotonic() - began:.0f} s", flush=True)
    return archive


def _forget_old(image: Image) -> None:
    """Remove all but the last few archives of an image: each change of a source makes one."""
    found = (cache_dir() / "images").glob(f"*/{image.name}.tar")
    newest_first = sorted(found, key=lambda path: path.parent.stat().st_mtime, reverse=True)
    for archive in newest_first[KEPT_ARCHIVES:]:
        archive.parent.with_suffix(".log").unlink(missing_ok=True)
        shutil.rmtree(archive.parent)


def _build(image: Image, archive: Path, log: Path) -> None:
    options = ["--build-arg", f"BASE={_base(log)}"]
    if image.requirements:
        house = wheels.wheelhouse(ROOT / image.requirements)
        pip = f"--no-index --find-links {WHEELS_IN_BUILD}"
        options += [
            "--build-arg",
            f"PIP_OPTIONS={pip}",
            "--volume",
            f"{house}:{WHEELS_IN_BUILD}:ro",
        ]
    with tempfile.TemporaryDirectory(prefix="glm-image-") as context:
        _stage(image, Path(context))
        if image.content_hash() not in archive.parent.name:
            raise BuildError(f"the sources of {image.name} changed while it was built: try again")
        _bud(image.reference, Path(context), image.dockerfile, options, log)
    _buildah("push", image.reference, f"docker-archive:{archive}:{image.reference}", log=log)


def _base(log: Path) -> str:
    """The base image's name in buildah's storage; made from the unpacked tree on first use."""
    reference = f"{BASE_REFERENCE}:{base.key()}"
    made = _storage() / f"base-{base.key()}.built"
    if not made.exists():
        _bud(reference, base.rootfs(), str(ROOT / "dev/images/base/Dockerfile"), [], log)
        made.touch()
    return reference


def _stage(image: Image, context: Path) -> None:
    """A copy of the inputs alone, so that no stray file of the checkout gets into an image."""
    for path in image.files():
        target = context / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)


def _bud(reference: str, context: Path, dockerfile: str, options: list[str], log: Path) -> None:
    fixed = ["--isolation", "chroot", "--pull-never", "--layers", "--file", dockerfile]
    _buildah("bud", *fixed, *options, "--tag", reference, str(context), log=log, cwd=context)


def _storage() -> Path:
    return cache_dir() / "images" / "storage"


def _buildah(*arguments: str, log: Path, cwd: Path | None = None) -> None:
    place = ["--root", str(_storage() / "root"), "--runroot", str(_storage() / "run")]
    command = ["buildah", *place, "--storage-driver", "overlay", *arguments]
    commands.run(command, log=log, seconds=BUILD_SECONDS, cwd=cwd)
