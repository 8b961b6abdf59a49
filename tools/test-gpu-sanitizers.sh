#!/usr/bin/env bash
# Runs five training steps of tiny and small, and the operations' tests, under compute-sanitizer on this machine's GPU: memcheck and
# initcheck with every buffer in its own allocation, racecheck with the usual arenas. Prints a line each; the full output is in
# run-sanitizers.log. First checks that the tools find deliberate mistakes (tests/engine/cuda_mistakes_test.cpp). Counts findings in
# cuBLAS's kernels separately. Status 0: no finding of ours, 1: findings, 2: cannot run.
#   run-sanitizers [TOOL...]   memcheck, initcheck and racecheck, or only those named
set -u
cd "$(dirname "$0")" || exit 2
refuse() {
  echo "run-sanitizers: $1" >&2
  exit 2
}
PATH=$PATH:/usr/local/cuda/bin
command -v compute-sanitizer > /dev/null || refuse "compute-sanitizer is missing: install it with the CUDA toolkit, or add it to PATH"
[ -x bin/test_engine_gpu ] || refuse "there are no programs here: run it in a folder that make dist made from a build with CUDA"
tools=("$@")
[ $# -gt 0 ] || tools=(memcheck initcheck racecheck)
for tool in "${tools[@]}"; do
  case $tool in memcheck | initcheck | racecheck) ;; *) refuse "$tool is unknown: use memcheck, initcheck or racecheck" ;; esac
done
log=$PWD/run-sanitizers.log
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
perl -e 'srand 1; print pack("v*", map { int rand 4096 } 1 .. 2000)' > "$work/tokens.bin" || exit 2
{ date -u; compute-sanitizer --version; bin/neurogen-engine doctor; } > "$log" 2>&1
failed=0

# look TOOL NAME COMMAND...: runs the command under the tool. Sets `status`, the command's; `total`, the tool's own count, empty if
# it did not finish; `theirs` and `ours`, findings in cuBLAS's kernels and in ours; writes the text of ours to $work/ours.
look() {
  local tool=$1 name=$2 options=(--print-limit 0)
  shift 2
  # Allocations may touch each other: padding keeps an overrun out of the next one.
  [ "$tool" != memcheck ] || options+=(--padding 65536)
  : > "$work/said"
  compute-sanitizer --tool "$tool" "${options[@]}" --log-file "$work/said" "$@" > "$work/output" 2>&1
  status=$?
  cat "$work/output" >> "$work/said"
  { echo "== $tool, $name: $*, status $status"; cat "$work/said"; } >> "$log"
  total=$(sed -nE 's/^=+ (ERROR|RACECHECK) SUMMARY: ([0-9]+) (error|hazard)s?( displayed.*)?$/\2/p' "$work/said" | head -n 1)
  # A finding is a line and the indented lines below it. Its kernels decide whose it is, not the host frames.
  theirs=$(awk -v ours="$work/ours" '
    function finish() {
      if (kernels ~ /nvjet|cutlass|cublas|gemm|gemv/ && kernels !~ /neurogen::/) ++theirs
      else if (text != "") printf "%s", text > ours
      text = kernels = ""
    }
    BEGIN { printf "" > ours }
    /^=+ (COMPUTE-SANITIZER|[A-Z]+ SUMMARY|Warning: [^R])/ || /^=+ *$/ || !/^=========/ { finish(); next }
    /^=+ [^ ]/ { finish() }
    { text = text $0 "\n" }
    !/Host Frame|host backtrace/ { kernels = kernels $0 "\n" }
    END { finish(); print theirs + 0 }' "$work/said")
  ours=$(grep -cE '^=+ [^ ]' "$work/ours")
}

say() { echo "$1" | tee -a "$log"; }
fail() {
  failed=$((failed + 1))
  say "$1"
  { [ "$ours" -gt 0 ] && head -n 60 "$work/ours"; } || tail -n 20 "$work/said"
}

# clean TOOL NAME COMMAND...: expects no finding of ours.
clean() {
  local beside='' begin=$SECONDS
  look "$@"
  [ "$theirs" -eq 0 ] || beside=", and $theirs in kernels of cuBLAS"
  if [ "$status" -eq 0 ] && [ -n "$total" ] && [ "$ours" -eq 0 ] && [ $((total > 0)) -eq $((theirs > 0)) ]; then
    say "$1, $2: no finding$beside, $((SECONDS - begin)) s"
  else
    fail "$1, $2: FAILED: $ours findings$beside, ${total:-none} by its own count, status $status"
  fi
}

# seen TOOL TEXT MISTAKE: expects the tool to find the mistake with separate buffers, and not within one block.
seen() {
  local tool=$1 text=$2 mistake=$3
  local finding command=(bin/test_engine_gpu --gtest_also_run_disabled_tests --gtest_brief=1)
  look "$tool" "$mistake" "${command[@]}" --gtest_filter="DISABLED_CudaMistakes.${mistake}SeparateBuffer"
  finding=$(grep -m 1 "$text" "$work/ours" | sed 's/^=* *//')
  [ -n "$finding" ] || { fail "$tool: FAILED: it does not see ${mistake}SeparateBuffer, so its other results prove nothing"; return; }
  look "$tool" "$mistake" "${command[@]}" --gtest_filter="DISABLED_CudaMistakes.${mistake}OneBlock"
  if [ "$status" -eq 0 ] && [ "$total" = 0 ]; then
    say "$tool sees a deliberate mistake ($finding) in a separate buffer, and not within one block"
  else
    fail "$tool: FAILED: ${mistake}OneBlock should give no finding, gives ${total:-no count}, status $status"
  fi
}

# Runs the operations' tests in several processes at once, since the tools slow them down the most.
clean_tests() {
  local parts=8 part pids=()
  for part in $(seq $parts); do
    (
      work=$work/$part
      log=$work/log
      failed=0
      mkdir "$work"
      export GTEST_TOTAL_SHARDS=$parts GTEST_SHARD_INDEX=$((part - 1))
      clean "$1" "the operations' tests, part $part of $parts" bin/test_kernels_gpu --gtest_brief=1
      exit "$failed"
    ) &
    pids+=($!)
  done
  for part in $(seq $parts); do
    wait "${pids[part - 1]}" || failed=$((failed + 1))
    cat "$work/$part/log" >> "$log"
    rm -r "${work:?}/$part"
  done
}

train="--device cuda --compute bf16 --batch 2 --seq 64 --steps 5 --data $work/tokens.bin --progress none --budget 64G --overhead 32G --export $work/model.safetensors"
for tool in "${tools[@]}"; do
  separate=--separate-buffers
  case $tool in
    memcheck) seen memcheck 'Invalid __global__ write' OneElementTooMany ;;
    initcheck) seen initcheck 'Uninitialized __global__ memory read' ReadBeforeWritten ;;
    racecheck) separate= ;;
  esac
  # shellcheck disable=SC2086  # options
  for arch in tiny small; do clean "$tool" "$arch" bin/neurogen-engine train --arch $arch $train $separate; done
  clean_tests "$tool"
done
say "$failed failed; details in $log"
[ $failed -eq 0 ]
