#!/usr/bin/env bash
# The faults harness at full length: kills, signals, full disks, damaged and hostile files. Prints its table, a row each.
# Hours on 2 cores. Arguments go to pytest, e.g. `bash scripts/faults.sh -k kills`.
set -uo pipefail
source "$(dirname "$0")/venv.sh" dev
failed=0

# Runs test files with $1 trials a row.
rows() {
  PTFT_FAULTS_TRIALS="$1" python -m pytest -s -rs "${@:2}" \
    | sed -nu 's/^faults: //p; /^SKIPPED/p; /^FAILED/p; /^E  /p'
  local code=$?
  [ "$code" -eq 0 ] || [ "$code" -eq 5 ] || failed=1  # 5: the arguments chose none of these
}

rows 200 tests/faults --ignore-glob='*mutated*' "$@"
rows 10000 tests/faults/test_mutated_checkpoints.py "$@"
rows 20000 tests/faults/test_mutated_configs.py "$@"
exit "$failed"
