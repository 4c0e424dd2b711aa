#!/usr/bin/env bash
# Pretrains once and finetunes several tasks from it. Run it again after any interruption: finished runs are kept,
# the interrupted one goes on where it was.
#
#   bash scripts/batch.sh pretrain.yaml birds/ leaves.csv rocks.yaml …
#
# A task is a folder of class folders or a CSV file (as `--data` takes it), or a finetune config (.yaml).
# Every run has its folder under $RUNS (default: runs/batch); the scores of all tasks go to $RUNS/results.tsv and, at
# the end, to stdout. Exit code: 0 all is done, 1 a run failed, 2 usage, 5 storage, 75 another process is at work here,
# 128 + n stopped by signal n.
set -euo pipefail
if [ "$#" -lt 2 ]; then
  echo "usage: bash scripts/batch.sh CONFIG TASK…" >&2
  exit 2
fi
config="$1"
shift
runs="${RUNS:-runs/batch}"

name_of() {
  local name
  name="$(basename "$1")"
  [ -d "$1" ] || name="${name%.*}"
  printf '%s\n' "$name"
}
names="$(for task in "$@"; do name_of "$task"; done)"
if [ -n "$(sort <<< "$names" | uniq -d)" ] || grep -qx source <<< "$names"; then
  echo "each task needs a name of its own, other than source: $(tr '\n' ' ' <<< "$names")" >&2
  exit 2
fi
mkdir -p "$runs" || exit 5

trap 'rm -f "$runs/.results.$$" "$runs/.stdout.$$"' EXIT

# A signal to this script goes on to the run, which saves its state; between two runs it ends the script.
child=""
stopped=0
interrupted=0
pass_on() {
  stopped=$((128 + $(kill -l "$1")))
  interrupted=1
  [ -z "$child" ] || kill -s "$1" "$child" 2> /dev/null || true
}
for name in INT TERM USR1 HUP; do
  # shellcheck disable=SC2064  # $name is the one of now
  trap "pass_on $name" "$name"
done

# Runs a ptft command; its stdout goes to the variable `final`, its exit code to `code`.
run() {
  [ "$stopped" -eq 0 ] || exit "$stopped"
  ptft "$@" > "$runs/.stdout.$$" &
  child=$!
  [ "$stopped" -eq 0 ] || kill "$child" 2> /dev/null || true
  while :; do # a trap ends a wait early; the code of a process can be asked for again
    interrupted=0
    code=0
    wait "$child" || code=$?
    [ "$interrupted" -eq 1 ] || break
  done
  child=""
  final="$(cat "$runs/.stdout.$$")"
}

# What to do about the exit code of the run in folder $1, see `ptft --help`: go on, say that it failed, or end.
handle() {
  if [ "$code" -gt 128 ]; then
    echo "stopped by a signal; run this script again to go on" >&2
    exit "$code"
  fi
  case "$code" in
    0) return 0 ;;
    5) echo "storage trouble at $1; free some space and run this script again" >&2; exit 5 ;;
    6) echo "$1: the loss is not finite; lower optim.lr, remove the folder and run this script again" >&2 ;;
    7) echo "$1: out of memory; raise train.accumulate and run this script again" >&2 ;;
    75) echo "another process is at work on $1; run this script again when it is done" >&2; exit 75 ;;
    *) echo "$1 failed with exit code $code; the reason is above and in $1/log.txt" >&2 ;;
  esac
  return 1
}

score='
import json, sys
summary = json.load(open(sys.argv[1]))
part = next((part for part in ("test", "validation") if part in summary), None)
scores = summary.get(part, {})
# Top-1 accuracy, mAP or R²: the first score that has an interval.
measure = next((key for key in scores if f"{key}_low" in scores), "")
values = (scores.get(key) for key in (measure, f"{measure}_low", f"{measure}_high"))
told = ("" if value is None else f"{value:.4f}" for value in values)
print(part or "none", measure, *told, scores.get("num_examples", 0), sep="\t")
'

run pretrain "$config" --out "$runs/source" --resume
handle "$runs/source" || exit 1
checkpoint="$final"

failed=0
printf 'task\tpart\tmeasure\tscore\tlow\thigh\tn\tcheckpoint\n' > "$runs/.results.$$"
for task in "$@"; do
  name="$(name_of "$task")"
  case "$task" in
    *.yaml | *.yml) what=("$task") ;;
    *) what=(--data "$task") ;;
  esac
  run finetune "${what[@]}" --from "$checkpoint" --out "$runs/$name" --resume
  handle "$runs/$name" || { failed=1; continue; }
  printf '%s\t%s\t%s\n' "$name" "$(python3 -c "$score" "$runs/$name/summary.json")" "$final" >> "$runs/.results.$$"
done
cat "$runs/.results.$$"
mv "$runs/.results.$$" "$runs/results.tsv" # whole at once: another call on this folder has rows of its own
exit "$failed"
