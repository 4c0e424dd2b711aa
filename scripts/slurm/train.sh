#!/usr/bin/env bash
# A pretraining or finetuning on a Slurm cluster: one process, one node with several GPUs, or several nodes.
#
#   sbatch scripts/slurm/train.sh RUN_FOLDER COMMAND ARGUMENT…
#
#   sbatch scripts/slurm/train.sh runs/source pretrain pretrain.yaml
#   sbatch --nodes=4 --gpus-per-node=8 scripts/slurm/train.sh runs/big pretrain big.yaml
#   sbatch scripts/slurm/train.sh runs/birds finetune --from runs/source/checkpoints/best.pt --data birds/
#
# `ptft` must be on the PATH of the nodes: submit from the activated environment, or activate it below. RUN_FOLDER must
# be on storage that all nodes see.
#
# Two minutes before the time limit, or when it is preempted (on clusters that warn: PreemptParameters with
# send_user_signal), the job gets SIGUSR1: ptft saves its state, the job goes back into the queue, and from there on with
# that state. Every other end is final, and tells ptft's exit code; the same sbatch line then goes on or prints the result.
#SBATCH --job-name=ptft
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
if [ "$#" -lt 2 ]; then
  echo "usage: sbatch scripts/slurm/train.sh RUN_FOLDER COMMAND ARGUMENT…" >&2
  exit 2
fi
folder="$1"
shift
most_requeues=200

nodes="${SLURM_NNODES:-1}"
processes="${SLURM_GPUS_ON_NODE:-1}"
if [ "$((nodes * processes))" -le 1 ]; then
  command=(ptft "$@" --out "$folder" --resume)
else
  # One torchrun a node, which starts a process for each GPU; the first node is where they meet. torchrun passes the
  # warning on and waits for the state to be saved, less than the 120 s of --signal.
  mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  export OMP_NUM_THREADS="$(((${SLURM_CPUS_PER_TASK:-$processes} + processes - 1) / processes))"
  command=(
    srun --ntasks-per-node=1
    torchrun --nnodes="$nodes" --nproc-per-node="$processes"
    --rdzv-backend=c10d --rdzv-endpoint="${hosts[0]}:$((20000 + SLURM_JOB_ID % 20000))"
    --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"
    --max-restarts=3 --signals-to-handle=SIGTERM,SIGINT,SIGUSR1 --shutdown-timeout=100
    -m ptft "$@" --out "$folder" --resume
  )
fi

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
started="$(mktemp)"
trap 'rm -f "$started"' EXIT
trap 'pass_on USR1' USR1
trap 'pass_on TERM' TERM
"${command[@]}" &
child=$!
[ -z "$sent" ] || kill -s "$sent" "$child" 2> /dev/null || true
while :; do
  interrupted=0
  code=0
  wait "$child" || code=$?
  [ "$interrupted" -eq 1 ] || break
done

# srun and torchrun hide the exit codes of their processes; status.json has the one of the run, if this start wrote it.
if [ "$code" -ne 0 ] && [ "${command[0]}" = srun ] && [ "$folder/status.json" -nt "$started" ]; then
  told="$(sed -n 's/.*"exit_code": \([0-9]*\).*/\1/p' "$folder/status.json")"
  [ "${told:-0}" -eq 0 ] || code="$told"
fi
if [ "$warned" -eq 1 ] && [ "$code" -gt 128 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$most_requeues" ]; then
    echo "not requeued: this job was restarted $most_requeues times" >&2
    exit "$code"
  fi
  echo "warned by Slurm, the state is saved: requeued" >&2
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
