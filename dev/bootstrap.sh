#!/usr/bin/env bash
# Creates the virtual environment from the hashed lock: bootstrap.sh PYTHON VENV
set -euo pipefail
python=$1 venv=$2
cd "$(dirname "$0")/.."

create() { # a folder without pip is what an earlier attempt left where ensurepip was missing
  "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "glm-operator needs Python 3.11 or newer; $python is $("$python" -V). Set PYTHON=/path/to/python3.11" >&2; exit 2; }
echo "Creating $venv with $("$python" -V) ..."
if ! create >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing python3-venv: Debian's Python cannot create a virtual environment without it ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  fi
  create || { echo "$python cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 2; }
fi
"$venv/bin/python" -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r requirements/dev.txt
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
