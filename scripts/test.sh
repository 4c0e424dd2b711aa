#!/usr/bin/env bash
# All tests, warnings as errors. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
exec python -m pytest "$@"
