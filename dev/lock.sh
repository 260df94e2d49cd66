#!/usr/bin/env bash
# Resolves the locks from pyproject.toml. Hashed, universal, and without the address of any index.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
lock() { # name, extra
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --no-emit-package glm-operator --no-header --extra "$2" -o "requirements/$1.txt" pyproject.toml
}
lock operator operator
lock gateway gateway
lock weights weights
lock dev dev
echo "uv>=0.7" | "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate -o requirements/bootstrap.txt -
"$uv" pip compile --quiet --universal --python-version 3.11 --override requirements/engine-overrides.txt --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate -o requirements/engine.txt requirements/engine.in
