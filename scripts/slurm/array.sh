#!/usr/bin/env bash
# Finetunes many tasks from one checkpoint on a Slurm cluster, each a task of a job array, once the pretraining is done:
#
#   job=$(sbatch --parsable scripts/slurm/train.sh runs/source pretrain pretrain.yaml)
#   sbatch --dependency=afterok:"$job" --array=0-2 scripts/slurm/array.sh runs/source/checkpoints/best.pt birds leaves rocks
#
# A task is a folder of class folders or a CSV file (as `--data` takes it), or a finetune config (.yaml); its run folder
# is runs/NAME. The array counts the tasks from 0. The same sbatch line again goes on with what is not done.
# `ptft report runs/birds runs/leaves runs/rocks` then puts them side by side.
#
# Preemption and time limit as in train.sh: saved at SIGUSR1, requeued, gone on with.
#SBATCH --job-name=ptft-array
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A-%a.log
set -euo pipefail
if [ "$#" -lt 2 ]; then
  echo "usage: sbatch --array=0-N scripts/slurm/array.sh CHECKPOINT TASK…" >&2
  exit 2
fi
checkpoint="$1"
shift
most_requeues=200

index="${SLURM_ARRAY_TASK_ID:?submit with --array=0-$(($# - 1))}"
if [ "$index" -ge "$#" ]; then
  echo "--array goes up to $index, but there are $# tasks, counted from 0: --array=0-$(($# - 1))" >&2
  exit 2
fi
name_of() {
  local name
  name="$(basename "$1")"
  [ -d "$1" ] || name="${name%.*}"
  printf '%s\n' "$name"
}
if [ -n "$(for task in "$@"; do name_of "$task"; done | sort | uniq -d)" ]; then
  echo "each task needs a name of its own, as its run folder is runs/NAME" >&2
  exit 2
fi
shift "$index"
name="$(name_of "$1")"
case "$1" in
  *.yaml | *.yml) task=("$1") ;;
  *) task=(--data "$1") ;;
esac

# Bash looks at signals only while it waits, so ptft runs beside it; a signal ends the wait early, hence the loop.
child=""
sent=""
warned=0
interrupted=0
pass_on() {
  [ "$1" != USR1 ] || warned=1
  sent="$1"
  interrupted=1
  [ -z "$child" ] || kill -s "$1" "$child" 2> /dev/null || true
}
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
ptft finetune "${task[@]}" --from "$checkpoint" --out "runs/$name" --resume &
child=$!
[ -z "$sent" ] || kill -s "$sent" "$child" 2> /dev/null || true
while :; do
  interrupted=0
  code=0
  wait "$child" || code=$?
  [ "$interrupted" -eq 1 ] || break
done

if [ "$warned" -eq 1 ] && [ "$code" -gt 128 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$most_requeues" ]; then
    echo "not requeued: this job was restarted $most_requeues times" >&2
    exit "$code"
  fi
  echo "warned by Slurm, the state is saved: requeued" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
