#!/usr/bin/env bash
# All tests, warnings as errors, on all cores with one thread each. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # some 60 processes are started anew, each of which would compile ptft first: 1 s
exec python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
