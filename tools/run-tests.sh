#!/bin/sh
# Runs every packed test and writes the output to run-tests.log; status 0 if all pass. GPU tests are skipped without a GPU; the others
# see no GPU.
cd "$(dirname "$0")" || exit 2
log=$PWD/run-tests.log
failed=0
{
  date -u
  bin/neurogen-engine doctor
} > "$log" 2>&1
for test in bin/test_*; do
  name=${test##*/}
  case $name in *_gpu | test_golden) ;; *) hidden='env CUDA_VISIBLE_DEVICES=' ;; esac
  echo "== $name" >> "$log"
  $hidden "$test" --gtest_brief=1 >> "$log" 2>&1
  status=$?
  [ $status -eq 0 ] || failed=$((failed + 1))
  echo "$name: $(grep -E '^\[  (PASSED|SKIPPED)' "$log" | tail -n 1), status $status"
  hidden=
done
echo "$failed test programs failed; details in $log" | tee -a "$log"
[ $failed -eq 0 ]
