#!/usr/bin/env bash
# Tests training on two GPUs of this machine: rates, losses, equal bits, memory, launchers, deaths. Prints a line for each finding;
# logs and outputs are in LOGS. Status 0: all hold, 1: some do not, 2: cannot run.
#   test-gpus.sh LOGS TRAIN.bin VALID.bin [PART...]   rates losses bits memory start kill, or all of them
# Variables: BIN, the folder of the programs; BUDGET (3200M); ARCHS ("full transformer-base"); BATCH (32), of one GPU; STEPS (200).
set -u
refuse() {
  echo "test-gpus: $1" >&2
  exit 2
}
[ $# -ge 3 ] || refuse "give a folder for logs, a text to train on and a held-out text"
logs=$1 data=$2 valid=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
for bin in "${BIN:-}" "$here/../build/bin" "$here/bin" "$here/../../bin"; do [ ! -x "$bin/neurogen-engine" ] || break; done
[ -x "$bin/neurogen-engine" ] || refuse "there is no neurogen-engine: set BIN to its folder"
gpus=$(nvidia-smi --query-gpu=index --format=csv,noheader 2> /dev/null | wc -l)
[ "$gpus" -ge 2 ] || refuse "this machine shows $gpus GPUs: two are needed"
mkdir -p "$logs" || exit 2
budget=${BUDGET:-3200M} batch=${BATCH:-32} steps=${STEPS:-200}
read -ra archs <<< "${ARCHS:-full transformer-base}"
parts=("$@")
[ $# -gt 0 ] || parts=(rates losses bits memory start kill)
failed=0

# check WORDS COMMAND...: prints the words, and whether the command succeeds.
check() {
  local words=$1
  shift
  if "$@"; then echo "holds: $words"; else echo "FAILS: $words"; failed=1; fi
}
holds() { awk "BEGIN { exit !($1) }"; }

# train NAME ARGUMENTS...: a run that logs to LOGS/NAME.jsonl, with its output in NAME.out and NAME.err. Sets `status`.
train() {
  local name=$1
  shift
  rm -f "$logs/$name".*
  "$bin/neurogen-engine" train --data "$data" --budget "$budget" --device cuda --progress none --export "$logs/$name.safetensors" \
    --log "$logs/$name.jsonl" "$@" > "$logs/$name.out" 2> "$logs/$name.err"
  status=$?
  [ $status -eq 0 ] || { echo "FAILS: $name, status $status: $(head -n 1 "$logs/$name.err")"; failed=1; }
}
# The field of every step in a log.
steps_of() { sed -nE 's/^\{"event":"step".*"'"$2"'":([0-9.e+-]+).*/\1/p' "$logs/$1.jsonl"; }
# The median rate of a run, without its first steps.
rate_of() { steps_of "$1" tokens_per_s | tail -n +21 | sort -n | awk '{ r[NR] = $1 } END { print r[int((NR + 1) / 2)] + 0 }'; }
middle() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
hash_of() { sha256sum < "$logs/$1.safetensors" | cut -c1-16; }

# The operations in which ranks exchange, with their times in the latest timed step, in milliseconds.
exchanges_of() {
  awk '
    /^\{"event":"program"/ { sub(/.*"operations":\["/, ""); sub(/"\].*/, ""); count = split($0, name, "\",\"") }
    /^\{"event":"times"/ { sub(/.*"ms":\[/, ""); sub(/\].*/, ""); times = split($0, ms, ",") }
    END {
      for (i = 1; i <= times; ++i) { all += ms[i]; if (name[i] ~ /all_ranks|[.]reduce|[.]broadcast/) { sum += ms[i]; printf "  %8.3f ms  %s\n", ms[i], name[i] } }
      printf "  %8.3f ms of %.3f in all\n", sum, all
    }' "$logs/$1.jsonl"
}

rates() {
  for arch in "${archs[@]}"; do
    local one=() two=() turn ratio
    for turn in 1 2 3; do
      for n in 1 2; do train "rate-$arch-$n-$turn" --arch "$arch" --batch "$batch" --steps "$steps" --gpus $n; done
      one+=("$(rate_of "rate-$arch-1-$turn")") two+=("$(rate_of "rate-$arch-2-$turn")")
    done
    head -n 1 "$logs/rate-$arch-1-1.out" "$logs/rate-$arch-2-1.out" | grep tokens
    echo "$arch: one GPU ${one[*]}, two ${two[*]} tokens/s (medians of steps, three runs each in turns)"
    ratio=$(awk "BEGIN { one = $(middle "${one[@]}"); print (one > 0 ? $(middle "${two[@]}") / one : 0) }")
    check "$arch: two GPUs reach $ratio times the rate of one, at least 1.85" holds "$ratio >= 1.85"
    train "times-$arch" --arch "$arch" --batch "$batch" --steps 60 --gpus 2 --valid "$valid" --eval-every 30
    echo "$arch: what a step of rank 0 spends in exchanges and waiting for them:"
    exchanges_of "times-$arch"
  done
}

# In 32 bits and for a while: a brain's training amplifies roundings, of 16 bits within a few steps.
losses() {
  local room budget steps=60
  local precise=(--compute fp32 --decoder-storage fp32)
  room=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | sort -n | head -n 1)
  budget=$((room * 9 / 10))Mi
  for arch in "${archs[@]}"; do
    train "one-$arch" --arch "$arch" --batch "$batch" --steps "$steps" "${precise[@]}"
    train "two-$arch" --arch "$arch" --batch $((batch / 2)) --steps "$steps" --gpus 2 "${precise[@]}"
    local most
    most=$(paste <(steps_of "one-$arch" loss) <(steps_of "two-$arch" loss) |
      awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > most) most = d } END { print NR < '"$steps"' ? 1 : most + 0 }')
    check "$arch: losses of $steps steps of 2 x $((batch / 2)) and 1 x $batch differ by at most $most, below 1e-3" holds "$most < 1e-3"
  done
}

bits() {
  for arch in "${archs[@]}"; do
    for i in 1 2; do train "bits-$arch-$i" --arch "$arch" --batch "$batch" --steps 50 --gpus 2 --compare-every 10; done
    check "$arch: two runs on two GPUs: $(hash_of "bits-$arch-1") and $(hash_of "bits-$arch-2")" \
      test "$(hash_of "bits-$arch-1")" = "$(hash_of "bits-$arch-2")"
  done
}

used() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n 2 | tr '\n' ' '; }

# What NVML says is in use on each GPU more than before, which is one process's, and the pinned memory that the plan says.
memory() {
  for arch in "${archs[@]}"; do
    local before most=(0 0) now plan host whole nccl
    plan=$("$bin/plan" --arch "$arch" --batch "$batch" --budget "$budget" --device cuda --gpus 2 --json)
    host=$(sed -nE 's/.*"host_arena_bytes": ?([0-9]+).*/\1/p' <<< "$plan" | head -n 1)
    whole=$(sed -nE 's/.*"budget_bytes": ?([0-9]+).*/\1/p' <<< "$plan" | head -n 1)
    nccl=$(sed -nE 's/.*"nccl_bytes": ?([0-9]+).*/\1/p' <<< "$plan" | head -n 1)
    read -ra before <<< "$(used)"
    train "memory-$arch" --arch "$arch" --batch "$batch" --steps "$steps" --gpus 2 &
    local run=$!
    while kill -0 $run 2> /dev/null; do
      read -ra now <<< "$(used)"
      for i in 0 1; do [ $((now[i] - before[i])) -le "${most[i]}" ] || most[i]=$((now[i] - before[i])); done
      sleep 0.2
    done
    wait $run
    check "$arch: $(grep memory: "$logs/memory-$arch.out")" test -s "$logs/memory-$arch.safetensors"
    for i in 0 1; do
      check "$arch: GPU $i: at most ${most[i]} MiB by NVML and $host bytes pinned, in a budget of $whole (NCCL at most ${nccl:-0})" \
        holds "${most[i]} > 0 && ${most[i]} * 1048576 + $host <= $whole"
    done
  done
}

# Both processes of a run with a launcher's variables, where the launcher itself is not installed.
by_variables() {
  local name=$1 pids=() rank
  shift
  for rank in 1 0; do
    env "${@//@/$rank}" "$bin/neurogen-engine" "${start[@]}" --export "$logs/start-$name.safetensors" >> "$logs/start-$name.out" 2>&1 &
    pids+=($!)
  done
  wait "${pids[@]}"
}

start() {
  local start=(train --data "$data" --budget "$budget" --device cuda --progress none --arch "${archs[0]}" --batch "$batch" --steps 30)
  rm -f "$logs"/start-*
  "$bin/neurogen-engine" "${start[@]}" --export "$logs/start-gpus.safetensors" --gpus 2 > "$logs/start-gpus.out" 2>&1
  if command -v torchrun > /dev/null; then
    torchrun --standalone --nproc-per-node 2 --no-python "$bin/neurogen-engine" "${start[@]}" --export "$logs/start-torchrun.safetensors" \
      > "$logs/start-torchrun.out" 2>&1
  else
    echo "torchrun is not installed: its variables instead"
    by_variables torchrun RANK=@ WORLD_SIZE=2 LOCAL_RANK=@ MASTER_ADDR=127.0.0.1 MASTER_PORT=29600
  fi
  if command -v mpirun > /dev/null; then
    mpirun --allow-run-as-root --oversubscribe -n 2 "$bin/neurogen-engine" "${start[@]}" --export "$logs/start-mpirun.safetensors" \
      > "$logs/start-mpirun.out" 2>&1
  else
    echo "mpirun is not installed: its variables instead"
    by_variables mpirun OMPI_COMM_WORLD_RANK=@ OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=@ OMPI_COMM_WORLD_LOCAL_SIZE=2
  fi
  for way in torchrun mpirun; do
    check "$way starts the run that --gpus 2 starts: $(hash_of start-$way), $(hash_of start-gpus)" \
      cmp -s "$logs/start-$way.safetensors" "$logs/start-gpus.safetensors"
  done
}

kill_ranks() {
  local saved=$logs/saved arguments pids begin i victim said
  rm -rf "$saved"
  arguments=(train --data "$data" --budget "$budget" --device cuda --progress none --arch "${archs[0]}" --batch "$batch" --gpus 2
    --checkpoint-dir "$saved" --save-every 20 --resume --log "$logs/kill.jsonl")
  rm -f "$logs/kill.jsonl"
  RANDOM=1
  for i in 1 2 3 4 5 6 7 8 9 10; do
    "$bin/neurogen-engine" "${arguments[@]}" --steps 1000000 > "$logs/kill-$i.out" 2> "$logs/kill-$i.err" &
    pids=($!)
    sleep $((4 + RANDOM % 15)).$((RANDOM % 10))
    mapfile -t -O 1 pids < <(pgrep -P "${pids[0]}")
    [ ${#pids[@]} -eq 2 ] || { check "kill $i: the run has two processes" false; continue; }
    victim=$((i % 2))
    begin=$(date +%s.%N)
    kill -9 "${pids[victim]}"
    wait "${pids[0]}" 2> /dev/null
    while kill -0 "${pids[0]}" 2> /dev/null || kill -0 "${pids[1]}" 2> /dev/null; do sleep 0.01; done
    said=$(awk "BEGIN { printf \"%.2f\", $(date +%s.%N) - $begin }")
    check "kill $i: rank $victim; all had ended after $said s: $(head -n 1 "$logs/kill-$i.err")" \
      holds "$said < 10 && $(wc -l < "$logs/kill-$i.err") == 1"
  done
  local newest
  newest=$(basename "$(ls "$saved"/step-*.ngck | tail -n 1)" .ngck)
  newest=$((10#${newest#step-}))
  # The schedule of the run is part of it, so it goes on for a while and is stopped.
  timeout -s TERM 30 "$bin/neurogen-engine" "${arguments[@]}" --steps 1000000 > "$logs/kill-last.out" 2> "$logs/kill-last.err"
  check "--resume goes on from step $newest: $(grep -E 'resuming|stopped' "$logs/kill-last.out" | tr '\n' ' ')" \
    grep -q "resuming from .*: $newest steps are done" "$logs/kill-last.out"
}

for part in "${parts[@]}"; do
  echo "== $part"
  case $part in
    rates | losses | bits | memory | start) $part ;;
    kill) kill_ranks ;;
    *) refuse "$part is unknown: use rates, losses, bits, memory, start or kill" ;;
  esac
done
exit $failed
