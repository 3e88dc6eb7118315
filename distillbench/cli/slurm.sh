#!/usr/bin/env bash
@DIRECTIVES@

# One Ray cluster on the allocation, one driver on its first node. Before the time limit, and when
# the job is preempted, running trainings write a checkpoint; the job goes back into the queue and
# goes on from there. Everything that is done stays done: the results folder must be on a file
# system that all nodes see at this path.
set -uo pipefail
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n') && export RAY_AUTH_TOKEN

again=0
ended=0
driver=
stop() { [ -n "$driver" ] && kill -TERM "$driver" 2>/dev/null; }
trap 'again=1; stop' USR1
trap 'ended=1; stop' TERM INT

run=(@COMMAND@)
if [ "${SLURM_JOB_NUM_NODES:-1}" -gt 1 ]; then
  mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  head=${nodes[0]}
  port=$((20000 + SLURM_JOB_ID % 20000))
  address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
  srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$address" --port="$port" --disable-usage-stats --block &
  sleep "${DISTILLBENCH_RAY_WAIT:-15}"
  for node in "${nodes[@]:1}"; do
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
      ray start --address="$address:$port" --disable-usage-stats --block &
  done
  sleep "${DISTILLBENCH_RAY_WAIT:-15}"
  run+=(--runner ray --address "$address:$port")
fi

"${run[@]}" &
driver=$!
code=0
# A signal ends `wait`, not the driver: it writes its checkpoints first.
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; code=$?; done
[ "$again" = 1 ] && [ "$code" = 130 ] && scontrol requeue "$SLURM_JOB_ID"
[ "$ended" = 1 ] && echo "ended by SLURM; a preempted job is in the queue again, and goes on there"
exit "$code"
