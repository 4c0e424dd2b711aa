#!/usr/bin/env bash
# All tests, warnings as errors, one thread each. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
export OMP_NUM_THREADS=1
# One process more than there are cores: many tests wait for the processes that they started.
exec python -m pytest -n "$(($(getconf _NPROCESSORS_ONLN) + 1))" --dist loadfile --no-loadscope-reorder "$@"
