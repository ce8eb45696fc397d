#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# unit.sh BUILD_FOLDER: runs the unit tests of the second build, one ctest entry a file. Limits are wide, because the
# sanitizers make a test several times slower.
[ -x "$1/tests/unit_tests" ] || { echo 'skipped: there is no build by clang 19 (clang.build says why)'; exit 77; }
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
exec ctest --test-dir "$1" -R '^unit\.' --timeout 1200 --output-on-failure
