#!/usr/bin/env bash
# All tests, warnings as errors, one thread each. Arguments go to pytest.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
export OMP_NUM_THREADS=1
unset PYTHONDONTWRITEBYTECODE # some 60 processes are started anew, each of which would compile ptft first: 1 s
# A third of the time tests wait: for signals, servers, processes that have died. So three of them share two cores.
cores="$(python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')"
exec python -m pytest -n "$((cores + (cores + 1) / 2))" --dist loadfile --no-loadscope-reorder "$@"
