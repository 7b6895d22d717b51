#!/usr/bin/env bash
# Resolves pyproject.toml into the three lock files, with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."
python3 -m venv .venv-lock
.venv-lock/bin/pip install --quiet --disable-pip-version-check uv
options=(--quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url)
.venv-lock/bin/uv pip compile "${options[@]}" pyproject.toml -o requirements.lock
.venv-lock/bin/uv pip compile "${options[@]}" --extra dev pyproject.toml -o requirements-dev.lock
# What builds the wheel, in the versions that the tests built it with.
python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' |
    .venv-lock/bin/uv pip compile "${options[@]}" --constraint requirements-dev.lock - -o requirements-build.lock
rm -rf .venv-lock
