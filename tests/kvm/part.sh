#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# part.sh RESULTS NAME COMMAND...: one test that needs a KVM. Runs the command where lab.sh found that this host can,
# else reports what became of it in the lab.
set -u
results=$1 name=$2
shift 2
if [ -e "$results/$name.here" ]; then exec "$@"; fi
if [ -e "$results/$name.skip" ]; then
    echo "skipped: $(cat "$results/$name.skip")"
    exit 77
fi
[ ! -e "$results/$name.log" ] || cat "$results/$name.log"
if [ ! -s "$results/$name.status" ]; then
    echo "$name: the lab machine ended before this part did; it said:"
    tail -n 20 "$results/lab.log" 2>&1
    exit 1
fi
echo "(in the lab)"
exit "$(cat "$results/$name.status")"
