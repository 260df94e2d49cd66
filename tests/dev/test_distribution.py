"""What comes from the distribution is installed where that is possible, and asked for elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from glm_dev import distribution
from glm_dev.distribution import DistributionError

WANTED = {"needed-1": "util", "needed-2": "util", "needed-3": "alpha"}
FAKE_APT = """#!/bin/sh
[ "$1 $2" = "-o DPkg::Lock::Timeout=300" ] || exit 99
shift 2
echo "$@" >> "{folder}/calls"
if [ -e "{folder}/busy" ]; then
  rm "{folder}/busy"
  echo "E: Could not get lock /lists/lock. It is held by process 7 (apt-get)" >&2
  exit 100
fi
case "$1" in install) for name in {gives}; do ln -s "{folder}/true" "{folder}/$name"; done ;; esac
exit {code}
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty PATH of a root user."""
    for name in ("sh", "ln", "rm", "true"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    return tmp_path


def apt_get(folder: Path, gives: str = "", code: int = 0) -> None:
    program = folder / "apt-get"
    program.write_text(FAKE_APT.format(folder=folder, gives=gives, code=code))
    program.chmod(0o755)


def test_debian_gets_each_missing_package_once(path: Path) -> None:
    apt_get(path, gives=" ".join(WANTED))
    said: list[str] = []
    distribution.require(WANTED, said.append)
    update, install = (path / "calls").read_text().splitlines()
    assert update.split()[0] == "update"
    assert install.split()[-2:] == ["alpha", "util"]
    assert said == ["Installing alpha, util with apt-get"]


def test_a_machine_that_upgrades_itself_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "RETRY_SECONDS", 0.0)
    apt_get(path, gives=" ".join(WANTED))
    (path / "busy").touch()
    distribution.require(WANTED, lambda text: None)
    words = [line.split()[0] for line in (path / "calls").read_text().splitlines()]
    assert words == ["update", "update", "install"]


def test_a_lock_that_stays_is_named_in_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "LOCK_SECONDS", 0.0)
    program = path / "apt-get"
    program.write_text("#!/bin/sh\necho 'E: Could not get lock /lists/lock' >&2; exit 100\n")
    program.chmod(0o755)
    with pytest.raises(DistributionError, match="update -qq failed: E: Could not get lock"):
        distribution.require(WANTED, lambda text: None)


def test_what_is_there_is_not_installed_again(path: Path) -> None:
    apt_get(path)
    for name in WANTED:
        (path / name).symlink_to(path / "true")
    distribution.require(WANTED, lambda text: None)
    assert not (path / "calls").exists()


def test_a_machine_without_apt_is_asked_in_one_sentence(path: Path) -> None:
    with pytest.raises(DistributionError, match="Please install alpha, util "):
        distribution.require(WANTED, lambda text: None)


def test_who_is_not_root_is_asked_in_one_sentence(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt_get(path, gives=" ".join(WANTED))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(DistributionError, match="Please install alpha, util "):
        distribution.require(WANTED, lambda text: None)


def test_a_failing_apt_get_is_quoted(path: Path) -> None:
    apt_get(path, code=100)
    with pytest.raises(DistributionError, match="apt-get update -qq failed"):
        distribution.require(WANTED, lambda text: None)
