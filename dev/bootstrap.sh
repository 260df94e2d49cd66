#!/usr/bin/env bash
# Creates the virtual environment from the hashed lock: bootstrap.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
cd "$(dirname "$0")/.."

create() { # a folder without pip is what an earlier attempt left where ensurepip was missing
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
}

# A fresh Debian upgrades itself for minutes. apt-get waits for dpkg's lock and not for that of its lists.
apt() {
  local said i
  for ((i = 0; i < 60; i++)); do
    said=$(LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" 2>&1 >/dev/null) && return
    [[ $said == *"Could not get lock"* ]] || break
    sleep "$((3 + RANDOM % 5))"
  done
  echo "apt-get $1 failed: $said" >&2
  return 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "glm-operator needs Python 3.11 or newer; $python is $("$python" -V). Set PYTHON=/path/to/python3.11" >&2; exit 2; }
echo "Creating $venv with $("$python" -V) ..."
if ! create >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv: Debian's Python cannot create a virtual environment without it ..."
    apt update -qq
    apt install -y -qq --no-install-recommends python3-venv
  fi
  create || { echo "$python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 2; }
fi
"$venv/bin/python" -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
