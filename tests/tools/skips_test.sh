#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# skips.py counts what ctest skipped, with the reasons, and leaves ctest's summary last.
set -euo pipefail
tool=$(dirname "$(readlink -f "$0")")/../../tools/lib/skips.py
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cat >"$log" <<'END'
1/3 Testing: cli.a
Output:
first
skipped: npm could not install it
2/3 Testing: lab.b
Output:
SKIP the lab machine cannot start here
3/3 Testing: c
Output:
END
got=$(python3 "$tool" "$log" <<'END'
1/3 Test #1: cli.a ...***Skipped   0.02 sec
100% tests passed, 0 tests failed out of 3

The following tests did not run:
	  1 - cli.a (Skipped)
	  2 - lab.b (Skipped)
END
)
want='1/3 Test #1: cli.a ...***Skipped   0.02 sec

2 skipped:
  cli.a: skipped: npm could not install it
  lab.b: SKIP the lab machine cannot start here
100% tests passed, 0 tests failed out of 3

The following tests did not run:
	  1 - cli.a (Skipped)
	  2 - lab.b (Skipped)'
[ "$got" = "$want" ] || { echo "FAIL got:"; echo "$got"; exit 1; }
[ "$(echo '100% tests passed' | python3 "$tool" /nowhere)" = "100% tests passed" ] ||
    { echo "FAIL nothing skipped, nothing said"; exit 1; }
echo "PASS"
