"""The Prometheus that tests and the demo may ask: the machine's own, or Debian's, unpacked.

The package is laid into the cache and not installed: a service that scrapes on port 9090 from
then on is nothing that a test should leave behind.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from glm_dev import distribution
from glm_dev.paths import cache_dir

UNPACK_SECONDS = 60.0


class PrometheusMissingError(Exception):
    """There is no Prometheus here; the message says how to get one."""


def program() -> Path:
    """The Prometheus on PATH, else one unpacked from Debian's package into the cache.

    Raises:
        PrometheusMissingError: it is neither installed nor to be had here.
    """
    if installed := shutil.which("prometheus"):
        return Path(installed)
    unpacked = cache_dir() / "prometheus"
    executable = unpacked / "usr" / "bin" / "prometheus"
    if not executable.exists():
        if shutil.which("apt-get") is None:
            raise PrometheusMissingError(
                "prometheus is not on PATH: please install it, or run on Debian."
            )
        _unpack("prometheus", unpacked)
    return executable


def _unpack(package: str, target: Path) -> None:
    """Download a package of the distribution and lay its files below `target`."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        try:
            distribution.apt_get("update", "-qq")
            distribution.apt_get("download", "-qq", package, folder=Path(folder))
        except distribution.DistributionError as error:
            raise PrometheusMissingError(str(error)) from error
        (archive,) = Path(folder).glob("*.deb")
        _extract(archive, Path(folder) / "files")
        shutil.rmtree(target, ignore_errors=True)
        (Path(folder) / "files").rename(target)


def _extract(archive: Path, folder: Path) -> None:
    done = subprocess.run(
        ["dpkg-deb", "--extract", str(archive), str(folder)],
        capture_output=True,
        text=True,
        timeout=UNPACK_SECONDS,
        check=False,
    )
    if done.returncode:
        raise PrometheusMissingError(f"{archive.name} cannot be unpacked: {done.stderr.strip()}")
