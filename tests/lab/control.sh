# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Checks that talk with a guest, "it", by its shell (expect.sh) and with its VMM by the control API at $socket. Sourced.
# $name stands before each check's text; a check that fails sets $failed and shows what its command printed.

# api METHOD PATH BODY STATUS
api() {
    local status
    status=$(curl -s -o /tmp/answer -w '%{http_code}' --max-time 20 --unix-socket "${socket:?}" -X "$1" ${3:+-d "$3"} "http://localhost$2")
    [ "$status" = "$4" ] || { echo "$1 $2 answered $status: $(cat /tmp/answer)"; return 1; }
}

listed() { api GET "/inox/devices/$1" "" 200; }

# gone ID...: within 30 seconds
gone() {
    local id
    for id in "$@"; do
        for _ in $(seq 300); do
            ! listed "$id" >/dev/null || { sleep 0.1; continue; }
            continue 2
        done
        echo "$id is still there: $(cat /tmp/answer)"
        return 1
    done
}

no_complaint() {
    local said
    said=$(answer "dmesg -r | grep -E '^<[0-3]>|^<4>.*(ACPI|acpi|pci|pnp:|pnp [0-9]|WARNING: CPU|BUG:|hung)'" 60)
    [ -z "$said" ] || { echo "$said"; return 1; }
}

# What the guest's shell line prints, without the question for the cursor's place that busybox asks before each line
answer() { guest it "$@" | sed 's/\x1b\[6n//g'; }

# says TEXT LINE [SECONDS]: the guest's shell line prints exactly this
says() {
    local said
    said=$(answer "$2" "${3:-60}")
    [ "$said" = "$1" ] || { echo "said '$said', not '$1'"; return 1; }
}

# check TEXT COMMAND...: what the command prints is shown when it fails
check() {
    local text=$1
    shift
    if "$@" >"$expect_dir/output" 2>&1; then
        echo "PASS $name: $text"
    else
        fail "$text"
        return 1
    fi
}

fail() {
    echo "FAIL $name: $1"
    sed 's/^/  /' "$expect_dir/output"
    tail -n 5 "$expect_dir"/it.{log,err} 2>/dev/null | sed 's/^/  | /' || true
    failed=1
}
