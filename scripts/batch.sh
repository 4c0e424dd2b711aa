#!/usr/bin/env bash
# Pretrains once and finetunes several tasks from it. Run it again after any interruption: finished runs are kept,
# the interrupted one goes on where it was.
#
#   bash scripts/batch.sh pretrain.yaml birds/ leaves/ …        (a folder of class folders for each task)
#
# Every run has its folder under $RUNS (default: runs/batch); the scores of all tasks go to $RUNS/results.tsv.
set -u
config="${1:?usage: bash scripts/batch.sh CONFIG FOLDER…}"
shift
runs="${RUNS:-runs/batch}"
mkdir -p "$runs" || exit 5

names="$(for folder in "$@"; do basename "$folder"; done)"
if [ -n "$(sort <<< "$names" | uniq -d)" ] || grep -qx source <<< "$names"; then
  echo "each task folder needs a name of its own, other than source: $(tr '\n' ' ' <<< "$names")" >&2
  exit 2
fi

# A signal to this script goes on to the run, which saves its state; we wait for it.
child=""
trap '[ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT USR1

# Runs a ptft command; its stdout goes to the variable `final`, its exit code to `code`.
run() {
  ptft "$@" > "$runs/.stdout" &
  child=$!
  wait "$child"
  code=$?
  while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done  # a trap interrupts the first wait
  child=""
  final="$(cat "$runs/.stdout")"
}

# What to do about the exit code of a run in folder $1; see `ptft --help`.
handle() {
  case "$code" in
    0) return 0 ;;
    130 | 143 | 138) echo "stopped by a signal; the state is saved, run this script again" >&2; exit "$code" ;;
    75) echo "another process is at work on $1; run this script again when it is done" >&2; exit 75 ;;
    5) echo "storage trouble at $1; free some space and run this script again" >&2; exit 5 ;;
    *) echo "$1 failed with exit code $code; the reason is above and in $1/log.txt" >&2; return 1 ;;
  esac
}

score='
import json, sys
summary = json.load(open(sys.argv[1]))
part = next((part for part in ("test", "validation") if part in summary), None)
if part:
    scores = summary[part]
    print(part, *(f"{scores[key]:.4f}" for key in ("top1", "top1_low", "top1_high")), scores["num_examples"], sep="\t")
else:
    print("none", "", "", "", 0, sep="\t")
'

run pretrain "$config" --out "$runs/source" --resume
handle "$runs/source" || exit 1
checkpoint="$final"

failed=0
printf 'task\tpart\ttop1\tlow\thigh\tn\tcheckpoint\n' > "$runs/results.tsv"
for folder in "$@"; do
  name="$(basename "$folder")"
  run finetune --from "$checkpoint" --data "$folder" --out "$runs/$name" --resume
  handle "$runs/$name" || { failed=1; continue; }
  printf '%s\t%s\t%s\n' "$name" "$(python3 -c "$score" "$runs/$name/summary.json")" "$final" >> "$runs/results.tsv"
done
cat "$runs/results.tsv"
exit "$failed"
