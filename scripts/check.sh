#!/usr/bin/env bash
# Format, lint, types, tests: what a change must pass.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
ruff format --check .
ruff check .
mypy
exec bash scripts/test.sh "$@"
