#!/usr/bin/env bash
# Pretrains once and finetunes several tasks from it. Run it again after any interruption: finished runs are kept,
# the interrupted one goes on where it was.
#
#   bash scripts/batch.sh pretrain.yaml task-a/ task-b/ …        (a folder of class folders for each task)
#
# Every run has its folder under $RUNS (default: runs/batch); a table of results goes to $RUNS/results.tsv.
set -u
config="${1:?usage: bash scripts/batch.sh CONFIG FOLDER…}"
shift
runs="${RUNS:-runs/batch}"
mkdir -p "$runs"

# What to do about the exit code of a ptft command; see `ptft --help`.
handle() {
  case "$1" in
    0) return 0 ;;
    130 | 143) echo "stopped by a signal; the state is saved, run this script again" >&2; exit "$1" ;;
    75) echo "another process is at work on $2; run this script again when it is done" >&2; exit 75 ;;
    5) echo "storage trouble at $2; free some space and run this script again" >&2; exit 5 ;;
    *) echo "$2 failed with exit code $1; see $2/log.txt" >&2; return 1 ;;
  esac
}

checkpoint="$(ptft pretrain "$config" --out "$runs/source" --resume)"
handle $? "$runs/source" || exit 1

failed=0
printf 'task\ttop1\tcheckpoint\n' > "$runs/results.tsv"
for folder in "$@"; do
  name="$(basename "$folder")"
  final="$(ptft finetune --from "$checkpoint" --data "$folder" --out "$runs/$name" --resume)"
  handle $? "$runs/$name" || { failed=1; continue; }
  top1="$(python3 -c 'import json, sys; print((lambda s: (s.get("test") or s.get("validation"))["top1"])(json.load(open(sys.argv[1]))))' "$runs/$name/summary.json")"
  printf '%s\t%s\t%s\n' "$name" "$top1" "$final" >> "$runs/results.tsv"
done
cat "$runs/results.tsv"
exit "$failed"
