#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# fuzz.sh BUILD_FOLDER: gives every fuzz target of the second build the seeds of its corpus.
[ -x "$1/tests/unit_tests" ] || { echo 'skipped: there is no build by clang 19 (clang.build says why)'; exit 77; }
corpus=$(dirname "$(readlink -f "$0")")/../fuzz/corpus
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
failed=0 count=0
for target in "$1"/tests/fuzz/fuzz_*; do
    [ -f "$target" ] && [ -x "$target" ] || continue
    name=${target##*/fuzz_}
    count=$((count + 1))
    timeout 120 "$target" "$corpus/$name" 0 || { echo "fuzz_$name: status $?"; failed=1; }
done
[ $count -gt 0 ] || { echo "no fuzz target below $1"; exit 1; }
exit $failed
