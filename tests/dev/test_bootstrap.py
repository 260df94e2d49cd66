"""The first step on a Debian whose Python cannot create a virtual environment yet."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "dev" / "bootstrap.sh"
PROGRAMS = {
    # Creates a folder with a Python in it, once the package is there.
    "python": """
case "$*" in
  -V) echo "Python 3.11.2" ;;
  -m\\ venv*)
    [ -e "{folder}/installed" ] || exit 1
    mkdir -p "$4/bin"
    for name in python uv; do ln -sf "{folder}/quiet" "$4/bin/$name"; done ;;
esac
""",
    "quiet": "",
    "sleep": "",
    "id": "echo 0",
    # Busy at its first call.
    "apt-get": """
shift 2
echo "$1" >> "{folder}/calls"
if [ ! -e "{folder}/free" ]; then
  touch "{folder}/free"
  echo "E: Could not get lock /lists/lock. It is held by process 7 (apt-get)" >&2
  exit 100
fi
[ -e "{folder}/broken" ] && echo "E: no mirror" >&2 && exit 100
[ "$1" = update ] || touch "{folder}/installed"
""",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH of fake programs and the few real ones that the fakes need."""
    for name, script in PROGRAMS.items():
        program = tmp_path / name
        program.write_text("#!/bin/sh\n" + script.replace("{folder}", str(tmp_path)))
        program.chmod(0o755)
    for name in ("bash", "dirname", "ln", "mkdir", "sh", "touch"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    return tmp_path


def bootstrap(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(path / "bash"), str(SCRIPT), str(path / "python"), str(path / "venv")],
        env={**os.environ, "PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_machine_that_upgrades_itself_is_waited_for(path: Path) -> None:
    done = bootstrap(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (path / "calls").read_text().split() == ["update", "update", "install"]


def test_another_failure_of_apt_get_is_quoted_at_once(path: Path) -> None:
    (path / "free").touch()
    (path / "broken").touch()
    done = bootstrap(path)
    assert done.returncode != 0
    assert "apt-get update failed: E: no mirror" in done.stderr
    assert (path / "calls").read_text().split() == ["update"]
