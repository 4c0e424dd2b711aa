#!/usr/bin/env bash
# The faults harness at full length: kills, signals, full disks, damaged and hostile files. Prints its table, a row each.
# Arguments go to pytest, e.g. `bash scripts/faults.sh -k kills`; PTFT_FAULTS_TRIALS (200) says how many trials a row gets.
set -euo pipefail
source "$(dirname "$0")/venv.sh" dev
export PTFT_FAULTS_TRIALS="${PTFT_FAULTS_TRIALS:-200}"
python -m pytest tests/faults -s -rs "$@" | sed -nu 's/^faults: //p; /^SKIPPED/p; /^FAILED/p; /^E  /p; /^[0-9].* in [0-9.]*s/p'
